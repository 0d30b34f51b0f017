"""The cells of a study of twins: all seeds of an arm at once, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rl.config import Config
from rl.instruments.replay.measuring import CellResult
from rl.instruments.study.arms import Cell
from rl.instruments.study.results import Finished, write_result
from rl.instruments.study.running import Job
from rl.instruments.study.twin_config import TwinConfig
from rl.instruments.study.twin_run import run_twin
from rl.monitoring.terminal import progress_bar


def twin_cell(config: Config, settings: TwinConfig, seed: int) -> CellResult:
    """One seed by itself, with the numbers that it has beside others."""
    return run_twin(config, settings, [seed])[0]


def run_twins(cells: Sequence[tuple[Cell, Job]]) -> None:
    """Run what is not finished, and write each cell's result.

    Raises:
        OSError: A result could not be written.
    """
    todo: dict[str, list[tuple[Cell, Job]]] = {}
    for cell, job in cells:
        if job.finished() is None:
            todo.setdefault(cell.arm.name, []).append((cell, job))
    with progress_bar("arms", len(todo)) as advance:
        for members in todo.values():
            first, began = members[0][0], time.perf_counter()
            results = run_twin(first.config, first.twin, [cell.seed for cell, _ in members])
            seconds = (time.perf_counter() - began) / len(members)
            for (_, job), result in zip(members, results, strict=True):
                write_result(job.folder, Finished(job.name, job.recipe, job.changes, seconds, result))
            advance(1)
