"""``sieve plan``: stage times in, a table of predictions out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console as Terminal
from rich.table import Table

from rl.commands.ending import one_line
from rl.commands.options import check, known_gpu
from rl.errors import ConfigError
from rl.learning.known_gpus import KNOWN_GPUS, KnownGpu
from rl.monitoring.terminal import say

if TYPE_CHECKING:
    from rl.config import Config
    from rl.instruments.planning.best_split import SplitPlan
    from rl.instruments.planning.stage_seconds import Split, StageSeconds

NEEDED = "stage times are needed: name --run RUN or --seconds rollout=…,learn=…, or both"
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
            "continuations), tokens and steps (of a rollout) and prompt (its tokens). With --run, in the place of the "
            "run's own.",
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What each stage takes at least on this GPU, by its data sheet; one of " + ", ".join(KNOWN_GPUS) + ".",
        ),
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Numbers of GPUs to find the best split of.")
    ] = None,
) -> None:
    """Predict a run's speed on other machines: seconds a step, idle shares, staleness and GPU-hours.

    The pipeline is simulated with the stage times of a run (`--run`), scaled to the configuration's batch, or with
    given ones (`--seconds`, those of the configuration's own numbers of engines and ranks). Every rank has a GPU of its
    own, every engine `engine.tensor_parallel` of them. With `--gpu` it is said what no such GPU can be faster than, and
    which of these times are.

    Examples:

    * `sieve plan configs/quickstart.yaml --run runs/quickstart-20261121-101500`
    * `sieve plan configs/qwen2_5_vl_7b_8gpu.yaml --gpus 8,64,1024
      --seconds rollout=60,annotate=40,rounds=4,score=12,learn=80,teach=30,tokens=500`
    * `sieve plan configs/qwen2_5_vl_7b_8gpu.yaml --gpu h100 --seconds tokens=500,prompt=1200`
    """
    from rl.config import load_config
    from rl.instruments.planning.best_split import best_split, plan_of
    from rl.instruments.planning.stage_seconds import split_of

    with one_line():
        card = known_gpu(gpu) if gpu is not None else None
        resolved = load_config(config, overrides or [])
        source, times, measured_on = _stage_times(resolved, run, seconds, card is not None)
        check(times.rollout > 0 or gpus is None, NEEDED)
        plans = [plan_of(resolved, times, measured_on, split_of(resolved))] if times.rollout else []
        plans += [best_split(resolved, times, measured_on, number) for number in _gpu_numbers(gpus)]
        bounds = list(_bounds(resolved, card, times, measured_on)) if card else []
    terminal = Terminal(highlight=False, width=WIDTH)
    if source:
        say(terminal, source)
    for shown in bounds:
        say(terminal, shown) if isinstance(shown, str) else terminal.print(shown)
    if plans:
        say(terminal, _stage_line(times, run is not None))
        terminal.print(_plan_table(resolved, plans))


def _stage_times(
    config: Config, run: Path | None, given: str | None, may_lack: bool
) -> tuple[str, StageSeconds, Split]:
    """Where stage times come from, what they are, and for which numbers of workers; with ``rollout`` 0 where there are
    none, as there may be."""
    from rl.instruments.planning.other_batch import changes, scaled_to
    from rl.instruments.planning.stage_seconds import StageSeconds, given_seconds, measured_seconds, split_of

    none = StageSeconds(rollout=0.0) if may_lack else None
    if run is not None:
        found, then = measured_seconds(run)
        times = scaled_to(config, given_seconds(given, found) if given is not None else found, then, run)
        scaled = ", ".join(changes(config, then))
        source = f"stages of {run}" + (f", scaled by {run / 'config.yaml'}: {scaled}" if scaled else "")
        return source, times, split_of(then)
    if given is not None:
        return "", given_seconds(given, none), split_of(config)
    if none is None:
        raise ConfigError(f"{NEEDED}; or --gpu NAME for what they are at least")
    return "", none, split_of(config)


def _bounds(config: Config, gpu: KnownGpu, given: StageSeconds, split: Split) -> Iterator[Table | str]:
    """What each stage takes at least, and a line on each given time that is less."""
    from rl.instruments.planning.least_seconds import least_seconds
    from rl.instruments.planning.stage_seconds import with_lengths

    lengths = with_lengths(given, config)
    prompt, tokens = f"{lengths.prompt:,.0f}", f"{lengths.tokens:,.0f}"
    table = Table(caption=f"at least, s, on {gpu.device}; prompts of {prompt} tokens, rollouts of {tokens}")
    for column in ("stage", "GPUs", "s", "bound by", "compute", "memory", "link", "given"):
        table.add_column(column, justify="left" if column in ("stage", "bound by") else "right")
    too_fast = []
    for stage, least in least_seconds(config, gpu, lengths, split).items():
        parts = (least.compute, least.memory, least.link)
        seconds, is_given = getattr(given, stage), getattr(given, stage) > 0
        table.add_row(
            stage,
            f"{least.gpus:,}",
            f"{least.seconds:.3g}",
            least.bound,
            *(f"{part:.3g}" for part in parts),
            f"{seconds:.3g}" if is_given else "-",
        )
        if is_given and seconds < least.seconds:
            too_fast.append(
                f"{stage} {seconds:.3g} s is less than {gpu.device} can do: {least.seconds:.3g} s, by {least.bound}"
            )
    yield table
    yield from too_fast


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
