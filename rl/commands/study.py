"""``sieve study``: checks the whole study, runs what is missing of it, and writes its report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rl.commands.ending import FAILURE, fail, one_line
from rl.files.quiet import quieten_libraries
from rl.monitoring.terminal import open_terminal, say, typed_command

if TYPE_CHECKING:
    from rl.instruments.study.running import Job
    from rl.instruments.study.study_plan import StudyPlan


def study(
    path: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="What is compared; see configs/studies.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key=value", help="Changes of the study, for example workers=4.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The study's folder; runs/studies/NAME unless given.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, and list the cells.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Run nothing; report what is finished.")] = False,
    power: Annotated[
        bool, typer.Option("--power", help="Run nothing; how many seeds do the differences need, by the twin?")
    ] = False,
) -> None:
    """Run many experiments that differ in what is asked, and compare them in pairs.

    Every experiment is checked before the first one runs. A cell, one arm with one seed, is a Ray task, at most
    `workers` of them at a time; it leaves `cells/NAME/result.json`. The same command goes on where it was stopped: it
    runs what is missing, failed, or was made with other settings. A study of replays records its runs first, one a
    seed, into `streams` beside its folder.

    The report: `report.md` with tables and `figures/`, every number in `results.csv` and `results.parquet`, and the
    outcomes, a row a cell, in `outcomes.csv`.

    Examples:

    * `sieve study configs/studies/selectors.yaml --dry-run`
    * `sieve study configs/studies/selectors.yaml workers=8`
    * `sieve study configs/studies/selectors.yaml --report`
    * `sieve study configs/studies/beliefs_loop.yaml --power`
    """
    quieten_libraries()
    from rl.instruments.study.power import power_report, predict
    from rl.instruments.study.report import write_report
    from rl.instruments.study.study_plan import find_findings, make_plan, run_missing

    again = "finished cells stay; the same command goes on"
    with one_line(again):
        plan = make_plan(path, overrides or [], out, runs=not (report or power))
        terminal = open_terminal()
        say(terminal, _overview(plan))
        if power:
            predictions, without = predict(plan.study, plan.arms, [cell for cell, _ in plan.cells])
            say(terminal, "\n" + power_report(plan.study, predictions, without))
            return
        if dry_run:
            say(terminal, "\n".join(_listed(plan)))
            return
        failures = {} if report else run_missing(plan)
        findings = find_findings(plan, failures)
        written = write_report(findings, plan.folder, _command(path, overrides or [], out))
        say(terminal, f"\n{findings.finished} of {findings.planned} cells are finished\nwritten  {written}")
    if failures:
        causes = "\n".join(f"  {name}: {cause}" for name, cause in failures.items())
        fail(f"{len(failures)} failed; {again}\n{causes}", FAILURE)


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
    """What all recordings and all cells change, and every cell with what it changes beside that."""
    fixed = plan.study.set
    jobs = [*plan.needed_recordings(), *(job for _, job in plan.cells)]
    width = max(len(job.name) for job in jobs)
    lines = [f"{what} {changes}" for what, changes in (("record", plan.study.record), ("set", fixed)) if changes]
    for job in jobs:
        own = {key: value for key, value in job.changes.items() if key not in fixed or fixed[key] != value}
        lines.append(f"{'finished' if job.finished() else 'to do':9}{job.name:{width}}  {own or ''}".rstrip())
    return ["", *lines]


def _command(path: Path, overrides: Sequence[str], out: Path | None) -> str:
    options = ["--out", str(out)] if out else []
    return shlex.join([typed_command("sieve"), "study", str(path), *overrides, *options])
