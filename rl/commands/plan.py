"""The command line of ``sieve plan``: stage times in, a table of predictions out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console as Terminal
from rich.table import Table

from rl.config import Config, load_config
from rl.errors import ConfigError
from rl.instruments.planning.best_split import Plan, best_split, plan_of
from rl.instruments.planning.other_batch import changes, scaled_to
from rl.instruments.planning.stage_seconds import (
    StageSeconds,
    given_seconds,
    measured_seconds,
    split_of,
)

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
MOST_GPUS, WIDTH = 100_000, 110


def run(config: str, overrides: Sequence[str], measured: Path | None, given: str | None, gpus: str | None) -> None:
    """Simulate, and print the table. `rl.cli` describes the arguments.

    Raises:
        ConfigError: One of them is wrong.
    """
    resolved = load_config(config, overrides)
    if measured is not None:
        found, then = measured_seconds(measured)
        seconds = scaled_to(resolved, given_seconds(given, found) if given is not None else found, then, measured)
        measured_on, source = split_of(then), source_line(resolved, then, measured)
    elif given is not None:
        seconds, measured_on, source = given_seconds(given), split_of(resolved), ""
    else:
        raise ConfigError("stage times are needed: name --run RUN or --seconds rollout=…,learn=…, or both")
    plans = [plan_of(resolved, seconds, measured_on, split_of(resolved))]
    plans += [best_split(resolved, seconds, measured_on, number) for number in gpu_numbers(gpus)]
    terminal = Terminal(highlight=False, width=WIDTH)
    if source:
        terminal.print(source, markup=False, soft_wrap=True)
    terminal.print(stage_line(seconds, measured is not None), markup=False, soft_wrap=True)
    terminal.print(plan_table(resolved, plans))


def gpu_numbers(text: str | None) -> list[int]:
    """From ``8,64,1024``.

    Raises:
        ConfigError: It is something else.
    """
    numbers = []
    for part in text.split(",") if text is not None else []:
        if not part.strip().isdecimal() or not 1 <= int(part) <= MOST_GPUS:
            raise ConfigError(f"--gpus {text!r}: allowed are whole numbers up to {MOST_GPUS:,}, for example 8,64,1024")
        numbers.append(int(part))
    return numbers


def source_line(config: Config, then: Config, run: Path) -> str:
    """Whose stage times they are, and what they were scaled by."""
    scaled = changes(config, then)
    return f"stages of {run}" + (f", scaled by {run / 'config.yaml'}: {', '.join(scaled)}" if scaled else "")


def stage_line(seconds: StageSeconds, measured: bool) -> str:
    """What was simulated with."""
    sync = f"sync {seconds.sync:.3g}" if seconds.sync or not measured else "sync not measured"
    return (
        f"stages, s: rollout {seconds.rollout:.3g}, score {seconds.score:.3g}, annotate {seconds.annotate:.3g} in "
        f"{seconds.rounds:.0f} rounds, learn {seconds.learn:.3g}, teach {seconds.teach:.3g}, {sync}, "
        f"other {seconds.other:.3g}"
    )


def plan_table(config: Config, plans: Sequence[Plan]) -> Table:
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
