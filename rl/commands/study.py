"""The body of ``sieve study``: checks the whole study, runs what is missing of it, and writes its report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rl.errors import ConfigError
from rl.files.folders import only_one
from rl.instruments.study.findings import Findings
from rl.instruments.study.report import write_report
from rl.instruments.study.results import Finished
from rl.instruments.study.running import Job, run_jobs
from rl.instruments.study.study_plan import StudyPlan, make_plan
from rl.monitoring.terminal import open_terminal, typed_command


def run(path: Path, overrides: Sequence[str], out: Path | None, dry_run: bool, report_only: bool) -> dict[str, str]:
    """Run a study, or only list or report it; gives the causes of what failed. `rl.cli` describes the arguments.

    Raises:
        ConfigError: The study, or an experiment that it asks for, is wrong.
        OSError: A result or the report could not be written.
    """
    plan = make_plan(path, overrides, out)
    terminal = open_terminal()
    terminal.print(_overview(plan), markup=False, soft_wrap=True)
    if dry_run:
        terminal.print("\n".join(_listed(plan)), markup=False, soft_wrap=True)
        return {}
    failures = {} if report_only else _run_missing(plan)
    findings = _findings(plan, failures)
    report = write_report(findings, plan.folder, _command(path, overrides, out))
    terminal.print(f"\n{findings.finished} of {findings.planned} cells are finished", markup=False)
    terminal.print(f"written  {report}", markup=False, soft_wrap=True)
    return failures


def _run_missing(plan: StudyPlan) -> dict[str, str]:
    """Record and run what is not finished; gives causes of failures by name."""
    with only_one(plan.folder):
        failures: dict[str, str] = {}
        if recordings := plan.needed_recordings():
            _refuse_other_streams(plan)
            with only_one(recordings[0].folder.parent):
                failures = run_jobs(recordings, plan.study, "recordings")
        unrecorded = {seed for seed, job in plan.recordings.items() if job.name in failures}
        jobs = [job for cell, job in plan.cells if cell.seed not in unrecorded]
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


def _findings(plan: StudyPlan, failures: dict[str, str]) -> Findings:
    cells: dict[str, dict[int, Finished]] = {}
    for cell, job in plan.cells:
        if (found := job.finished()) is not None:
            cells.setdefault(cell.arm.name, {})[cell.seed] = found
    return Findings(plan.study, {arm.name: arm for arm in plan.arms}, cells, failures)


def _overview(plan: StudyPlan) -> str:
    """What there is to do, and how long it will take, about."""
    study = plan.study
    lines = [f"{study.name}: {study.question}", f"{len(plan.arms)} arms, {len(study.seeds)} seeds"]
    if recordings := plan.needed_recordings():
        lines.append(_progress("recordings", recordings))
    lines.append(_progress("cells", [job for _, job in plan.cells]))
    left = timedelta(seconds=round(plan.seconds_left()))
    lines.append(f"{study.workers} at a time, about {left} left" if left else "nothing is left to do")
    return "\n".join(lines)


def _progress(what: str, jobs: Sequence[Job]) -> str:
    return f"{len(jobs)} {what}, {sum(job.finished() is not None for job in jobs)} of them finished"


def _listed(plan: StudyPlan) -> list[str]:
    """Every cell with what it changes."""
    jobs = [*plan.needed_recordings(), *(job for _, job in plan.cells)]
    width = max(len(job.name) for job in jobs)
    return ["", *(f"{'finished' if job.finished() else 'to do':9}{job.name:{width}}  {job.changes}" for job in jobs)]


def _command(path: Path, overrides: Sequence[str], out: Path | None) -> str:
    options = ["--out", str(out)] if out else []
    return shlex.join([typed_command("sieve"), "study", str(path), *overrides, *options])
