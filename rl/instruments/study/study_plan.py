"""From a study's file to its jobs, and to what they found: what is recorded and run, where it lies, for how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from rl.config import Config
from rl.errors import ConfigError
from rl.files.folders import only_one
from rl.instruments.replay.measuring import CellResult
from rl.instruments.replay.replay import check_replay, check_varied
from rl.instruments.study.arms import (
    Arm,
    Cell,
    make_arms,
    make_cells,
    make_recordings,
    recipe_of,
)
from rl.instruments.study.findings import Findings
from rl.instruments.study.results import Finished
from rl.instruments.study.running import Job, run_jobs
from rl.instruments.study.study_file import Study, load_study
from rl.instruments.study.training_run import RUN, train_cell
from rl.instruments.study.twin_cells import run_twins, twin_cell
from rl.instruments.study.twin_run import check_twin
from rl.reward_models.mprm import check_mprm
from rl.reward_models.outcome import check_outcome_model

CELLS, STREAMS = "cells", "streams"


@dataclass(frozen=True)
class StudyPlan:
    """All that a study runs.

    Attributes:
        study: What is asked.
        folder: Its folder, absolute.
        arms: What is compared.
        recordings: Runs to be recorded, one a seed; none where each cell trains.
        cells: The cells with their jobs, in the order in which they run.
    """

    study: Study
    folder: Path
    arms: Sequence[Arm]
    recordings: dict[int, Job]
    cells: Sequence[tuple[Cell, Job]]

    def needed_recordings(self) -> list[Job]:
        """Those that cells are still to replay, finished or not."""
        missing = {cell.seed for cell, job in self.cells if job.finished() is None}
        return [job for seed, job in self.recordings.items() if seed in missing]

    def seconds_left(self) -> float:
        """About how long it will take from here on."""
        return sum(
            _seconds(jobs, guess) / min(self.study.workers, max(1, len(jobs)))
            for jobs, guess in (
                (self.needed_recordings(), self.study.record_seconds),
                ([job for _, job in self.cells], self.study.cell_seconds),
            )
        )


def make_plan(path: Path, overrides: Sequence[str], out: Path | None, runs: bool = True) -> StudyPlan:
    """Read a study's file and check every experiment in it, before anything runs.

    Args:
        path: The file.
        overrides: Changes of its keys, as ``key=value``.
        out: The study's folder; ``runs/studies/NAME`` if None. Recorded runs lie in ``streams`` beside it, so that
            studies that record alike share them.
        runs: Whether it is to be run: the reward models that its experiments name must be there then.

    Raises:
        ConfigError: The file, or an experiment that it asks for, is wrong.
    """
    study = load_study(path, overrides)
    folder = (out or Path("runs") / "studies" / study.name).absolute()
    arms = make_arms(study)
    cells, recorded = make_cells(study, path, arms), make_recordings(study, path)
    for cell in cells[: len(arms)] if study.kind != "train" else ():  # those of other seeds differ in nothing else
        try:
            if study.kind == "twin":
                check_twin(cell.config, cell.arm.settings)
                continue
            check_replay(cell.config, recorded[cell.seed])
            check_varied(cell.arm.settings, cell.config)
        except ConfigError as error:
            raise ConfigError(f"{path}: {cell.arm.name}: {error}") from None
    if runs and study.kind != "twin":
        experiments = {cell.arm.name: cell.config for cell in cells[: len(arms)]}
        _check_models(path, ({"record": recorded[study.seeds[0]]} if recorded else {}) | experiments)
    recordings = {seed: _recording(folder.parent / STREAMS, config) for seed, config in recorded.items()}
    return StudyPlan(study, folder, arms, recordings, [(cell, _job(study, cell, folder, recordings)) for cell in cells])


def _check_models(path: Path, experiments: Mapping[str, Config]) -> None:
    """Whether the reward models of experiments, by name, can be opened; each that several have once.

    Raises:
        ConfigError: One cannot.
    """
    seen = []
    for name, config in experiments.items():
        if (read := (config.policy, config.task, config.mprm, config.outcome_model)) in seen:
            continue
        seen.append(read)
        try:
            check_mprm(config)
            check_outcome_model(config)
        except ConfigError as error:
            raise ConfigError(f"{path}: {name}: {error}") from None


def run_missing(plan: StudyPlan) -> dict[str, str]:
    """Record and run what is not finished; gives causes of failures by name.

    Raises:
        ConfigError: A recorded run is gone, another process runs the study, or Ray has too little for a single job.
        WorkerError: Ray does not start.
        OSError: A result could not be written.
    """
    with only_one(plan.folder):
        failures: dict[str, str] = {}
        if recordings := plan.needed_recordings():
            _refuse_other_streams(plan)
            with only_one(recordings[0].folder.parent):
                failures = run_jobs(recordings, plan.study, "recordings")
        unrecorded = {seed for seed, job in plan.recordings.items() if job.name in failures}
        jobs = [job for cell, job in plan.cells if cell.seed not in unrecorded]
        if plan.study.kind == "twin":
            run_twins(plan.cells)
            return failures
        return failures | run_jobs(jobs, plan.study, "cells")


def _refuse_other_streams(plan: StudyPlan) -> None:
    """See that no cell will be compared with one of another stream.

    Raises:
        ConfigError: A recorded run is gone, and cells that replayed it are there.
    """
    gone = {seed for seed, job in plan.recordings.items() if job.finished() is None}
    stale = [job for cell, job in plan.cells if cell.seed in gone and job.finished() is not None]
    if stale:
        raise ConfigError(
            f"{stale[0].folder}: it and {len(stale) - 1} other finished cells replayed recorded runs that are gone, "
            "and new ones would not be the same; allowed is to delete these cells, or to put the streams back"
        )


def find_findings(plan: StudyPlan, failures: dict[str, str]) -> Findings:
    """What the finished cells say, beside the causes of failures by name."""
    cells: dict[str, dict[int, Finished]] = {}
    for cell, job in plan.cells:
        if (found := job.finished()) is not None:
            cells.setdefault(cell.arm.name, {})[cell.seed] = found
    return Findings(plan.study, {arm.name: arm for arm in plan.arms}, cells, failures)


def replay_cell(run: Path, config: Config) -> CellResult:
    """Replay a recorded run; imported where it runs, since it brings models along."""
    from rl.instruments.replay.replay import replay

    return replay(run, config)


def _recording(folder: Path, config: Config) -> Job:
    recipe = recipe_of(config)
    name = f"{config.name}-seed{config.seed}-{recipe[:8]}"
    return Job(name, folder / name, recipe, {}, partial(train_cell, config, folder / name))


def _job(study: Study, cell: Cell, folder: Path, recordings: dict[int, Job]) -> Job:
    place = folder / CELLS / cell.name
    if study.kind == "twin":
        recipe = recipe_of(cell.config, cell.twin)
        return Job(cell.name, place, recipe, cell.changes, partial(twin_cell, cell.config, cell.twin, cell.seed))
    recipe = recipe_of(cell.config)
    if (recording := recordings.get(cell.seed)) is None:
        return Job(cell.name, place, recipe, cell.changes, partial(train_cell, cell.config, place))
    work = partial(replay_cell, recording.folder / RUN, cell.config)
    return Job(cell.name, place, f"{recording.recipe}-{recipe}", cell.changes, work)


def _seconds(jobs: Sequence[Job], guess: float) -> float:
    known = [found.seconds for job in jobs if (found := job.finished())]
    return (len(jobs) - len(known)) * (median(known) if known else guess)
