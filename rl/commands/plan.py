"""``sieve plan``: stage times in, a table of predictions out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console as Terminal
from rich.table import Table

from rl.commands.ending import one_line
from rl.errors import ConfigError
from rl.monitoring.terminal import say

if TYPE_CHECKING:
    from rl.config import Config
    from rl.instruments.planning.best_split import SplitPlan
    from rl.instruments.planning.stage_seconds import StageSeconds

COLUMNS = (
    "GPUs",
    "engines",
    "learner\nranks",
    "MPRM\nranks",
    "s/step",
    "engines\nidle",
    "learner\nidle",
    "MPRM\nidle",
    "staleness",
    "GPU-hours",
)
MOST_GPUS, LONGEST_NUMBER, WIDTH = 100_000, 20, 110


def plan(
    config: Annotated[str, typer.Argument(metavar="CONFIG.yaml", help="Batch sizes, staleness and first split.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key.sub=value", help="Changes, for example learner.prompts=512.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="A run folder: stage times are its metrics' medians.")
    ] = None,
    seconds: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE=S,…",
            help="Stage times: rollout, annotate, score, learn, teach, sync, other; beside them rounds (of "
            "continuations), tokens and steps (of a rollout). With --run, in the place of the run's own.",
        ),
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Numbers of GPUs to find the best split of.")
    ] = None,
) -> None:
    """Predict a run's speed on other machines: seconds a step, idle shares, staleness and GPU-hours.

    The pipeline is simulated with the stage times of a run (`--run`), scaled to the configuration's batch, or with
    given ones (`--seconds`, those of the configuration's own numbers of engines and ranks). Every rank has a GPU of its
    own, every engine `engine.tensor_parallel` of them.

    Examples:

    * `sieve plan configs/quickstart.yaml --run runs/quickstart-20261121-101500`
    * `sieve plan configs/qwen2_5_vl_7b_8gpu.yaml --gpus 8,64,1024
      --seconds rollout=60,annotate=40,rounds=4,score=12,learn=80,teach=30,tokens=500`
    """
    from rl.config import load_config
    from rl.instruments.planning.best_split import best_split, plan_of
    from rl.instruments.planning.other_batch import changes, scaled_to
    from rl.instruments.planning.stage_seconds import given_seconds, measured_seconds, split_of

    with one_line():
        resolved = load_config(config, overrides or [])
        source = ""
        if run is not None:
            found, then = measured_seconds(run)
            times = scaled_to(resolved, given_seconds(seconds, found) if seconds is not None else found, then, run)
            measured_on, scaled = split_of(then), ", ".join(changes(resolved, then))
            source = f"stages of {run}" + (f", scaled by {run / 'config.yaml'}: {scaled}" if scaled else "")
        elif seconds is not None:
            times, measured_on = given_seconds(seconds), split_of(resolved)
        else:
            raise ConfigError("stage times are needed: name --run RUN or --seconds rollout=…,learn=…, or both")
        plans = [plan_of(resolved, times, measured_on, split_of(resolved))]
        plans += [best_split(resolved, times, measured_on, number) for number in _gpu_numbers(gpus)]
    terminal = Terminal(highlight=False, width=WIDTH)
    if source:
        say(terminal, source)
    say(terminal, _stage_line(times, run is not None))
    terminal.print(_plan_table(resolved, plans))


def _gpu_numbers(text: str | None) -> list[int]:
    """From ``8,64,1024``."""
    from rl.config.reading import shown

    numbers = []
    for part in text.split(",") if text is not None else []:
        digits = part.strip()
        if not digits.isdecimal() or len(digits) > LONGEST_NUMBER or not 1 <= int(digits) <= MOST_GPUS:
            raise ConfigError(
                f"--gpus {shown(text)}: allowed are whole numbers up to {MOST_GPUS:,}, for example 8,64,1024"
            )
        numbers.append(int(part))
    return numbers


def _stage_line(seconds: StageSeconds, measured: bool) -> str:
    """What was simulated with."""
    sync = f"sync {seconds.sync:.3g}" if seconds.sync or not measured else "sync not measured"
    return (
        f"stages, s: rollout {seconds.rollout:.3g}, score {seconds.score:.3g}, annotate {seconds.annotate:.3g} in "
        f"{seconds.rounds:.0f} rounds, learn {seconds.learn:.3g}, teach {seconds.teach:.3g}, {sync}, "
        f"other {seconds.other:.3g}"
    )


def _plan_table(config: Config, plans: Sequence[SplitPlan]) -> Table:
    """One row a plan; the first is the configuration's own split."""
    about = f"{config.steps:,} policy steps, max_staleness {config.max_staleness}"
    table = Table(caption=f"{about}; first row: as configured")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for plan in plans:
        split, forecast = plan.split, plan.forecast
        table.add_row(
            f"{plan.gpus:,}",
            f"{split.engines:,}",
            f"{split.learner:,}",
            f"{split.mprm:,}",
            f"{forecast.step_seconds:.3g}",
            f"{forecast.engines_idle:.0%}",
            f"{forecast.learner_idle:.0%}",
            f"{forecast.mprm_idle:.0%}" if split.mprm else "-",
            f"{forecast.staleness:.2f}",
            f"{plan.gpu_hours(config.steps):,.1f}",
        )
    return table
