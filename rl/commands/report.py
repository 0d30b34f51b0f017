"""``sieve report``: run folders in, one HTML page out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl.commands.ending import one_line
from rl.commands.options import check


def report(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders, finished or not.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="HTML", help="RUN/report.html, or of several runs sieve-report.html."),
    ] = None,
    rollouts: Annotated[int, typer.Option(help="How many rollouts to show, at most.")] = 200,
) -> None:
    """Write one HTML page on runs: curves, a comparison, and a browser of the rollouts that were recorded.

    The page holds everything it shows, and fetches nothing. Rollouts are there if the run was trained with
    `record=true`.

    Example: `sieve report runs/bis runs/random -o comparison.html`
    """
    from rl.instruments.report.page import report_page, write_page
    from rl.instruments.report.rollouts import sample_rollouts
    from rl.instruments.report.runs import read_runs

    with one_line("nothing was written"):
        folders = runs or []
        check(bool(folders), "name a run folder, for example runs/quickstart-20261121-101500")
        check(rollouts >= 0, f"--rollouts {rollouts}: allowed is 0 or more")
        target = output or (folders[0] / "report.html" if len(folders) == 1 else Path("sieve-report.html"))
        check(not target.is_dir(), f"-o {target} is a folder; allowed is the name of a file")
        found = read_runs(folders)
        sample = sample_rollouts(found, rollouts)
        size = write_page(target, report_page(found, sample))
    recorded = sum(sample.recorded)
    shown = f"{len(sample.rollouts):,} of {recorded:,} rollouts" if recorded else "no rollouts"
    print(f"{target}: {len(found)} run{'s' if len(found) > 1 else ''}, {shown}, {size / 1e6:.1f} MB")
