"""``sieve select``: the most informative rollouts of an annotated corpus."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from rewards.files.plain_text import record_files
from rl.commands.ending import one_line
from rl.commands.options import check, one_of
from rl.errors import ConfigError
from rl.monitoring.terminal import printable

if TYPE_CHECKING:
    from selection.offline.choosing import Report
    from selection.selectors import Selector


def select(
    annotations: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="ANNOTATIONS...",
            help="JSON lines, or a JSON list, plain or compressed (.gz, .zst); a folder stands for its *.jsonl.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="OUT", help="Where the records go.")] = None,
    selector: Annotated[str, typer.Option(help="What makes a rollout informative, or package.module:Name.")] = "bis",
    ratio: Annotated[float, typer.Option(help="Share of each file to choose, above 0 and at most 1.")] = 0.1,
    alpha: Annotated[float, typer.Option(help="BIS's alpha: larger ones for smaller ratios.")] = 0.2,
    counts: Annotated[
        bool, typer.Option("--counts", help="Score num_mc_correct of num_mc_total, not score; total 0 is missing.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first broken line.")] = False,
    format: Annotated[str, typer.Option(help="jsonl or parquet.")] = "jsonl",
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw what was chosen.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; all CPUs unless given.")] = None,
    seed: Annotated[int, typer.Option(help="Of selectors that choose at random.")] = 0,
) -> None:
    """Choose the most informative rollouts of an annotated corpus in VisualPRM400K's format.

    Example: `sieve select annotations/ --selector bis --ratio 0.1 --alpha 0.2 -o chosen.jsonl`
    """
    from concurrent.futures.process import BrokenProcessPool

    from selection.offline.choosing import Selection
    from selection.offline.choosing import select as choose
    from selection.offline.output import FORMATS
    from selection.offline.parts import Scoring, SelectionError
    from selection.selectors import NEED_COUNTS

    with one_line("nothing was written", wrong=(SelectionError,)):
        check(0 < ratio <= 1, f"--ratio {ratio:g}: allowed is above 0 and at most 1")
        check(0 <= alpha < inf, f"--alpha {alpha:g}: allowed is 0 or more")
        check(seed >= 0, f"--seed {seed}: allowed is 0 or more")
        check(workers is None or workers >= 1, f"--workers {workers}: allowed is 1 or more")
        one_of("--format", format, FORMATS)
        files = _files(annotations or [])
        output = _target(output, plot, files)
        scoring = Scoring(
            selector,
            _selector(selector, alpha),
            counts=counts or selector in NEED_COUNTS,
            keep_nan=selector == "bis" and not counts,
            seed=seed,
        )
        processes = workers or len(os.sched_getaffinity(0))
        try:
            report = choose(Selection(files, scoring, ratio, output, format, plot, strict, processes))
        except BrokenProcessPool:
            raise RuntimeError("a worker process died, perhaps for want of memory") from None
        _name_broken_lines(report)
        print("\n".join(map(printable, report.summary().split("\n"))), f"written  {output}", sep="\n\n")
        if plot is not None:
            print(f"plot     {plot}")


def _files(annotations: Sequence[Path]) -> tuple[Path, ...]:
    check(bool(annotations), "name annotation files, or folders with *.jsonl files")
    files = tuple(file for path in annotations for file in _files_of(path))
    for place, file in enumerate(files):
        check(not any(file.samefile(earlier) for earlier in files[:place]), f"{file} is given twice")
    return files


def _files_of(path: Path) -> Iterator[Path]:
    files = record_files(path) if path.is_dir() else [path]
    check(bool(files), f"{path} has no *.jsonl files")
    for file in files:
        check(file.exists(), f"{file} does not exist")
        check(file.is_file(), f"{file} is no file that can be read twice")
        check(os.access(file, os.R_OK), f"{file} cannot be read")
        yield file


def _target(output: Path | None, plot: Path | None, files: Sequence[Path]) -> Path:
    """Where the records go, once it is known that they, and the plot, can be written."""
    if output is None:
        raise ConfigError("name the output with -o OUT")
    _check_target(output, "-o", files)
    if plot is not None:
        _check_target(plot, "--plot", files)
        check(plot.absolute() != output.absolute(), f"--plot {plot} is the output, too")
    return output


def _check_target(target: Path, option: str, files: Sequence[Path]) -> None:
    check(target.parent.is_dir(), f"{option} {target}: there is no folder {target.parent}")
    try:
        with TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise ConfigError(f"{option} {target}: the folder {target.parent} cannot be written to") from error
    if target.exists():
        check(target.is_file(), f"{option} {target} exists and is no file")
        check(not any(target.samefile(file) for file in files), f"{option} {target} is one of the inputs")


def _selector(name: str, alpha: float) -> Selector:
    from selection.config import SelectionConfig
    from selection.selectors import NEED_COMPLEXITY, NEED_STEP_SCORES, SELECTORS, make_selector

    offline = [known for known in SELECTORS if known not in NEED_STEP_SCORES | NEED_COMPLEXITY]
    if name in offline:
        return make_selector(name, SelectionConfig(alpha=alpha))
    for names, need in ((NEED_STEP_SCORES, "an MPRM's step scores"), (NEED_COMPLEXITY, "the images' entropy")):
        check(
            name not in names,
            f"--selector {name} needs {need}, which annotation files do not have; allowed are {', '.join(offline)}, "
            "or package.module:Name",
        )
    from rl.config.users_parts import resolve_made

    sys.path.insert(0, str(Path.cwd()))
    return resolve_made("--selector", name, {known: make_selector(known, SelectionConfig()) for known in offline})


def _name_broken_lines(report: Report) -> None:
    for file, line, reason in report.broken:
        print(f"sieve: {printable(f'{file}:{line}: {reason}')}", file=sys.stderr)
    more = sum(file.broken for file in report.files) - len(report.broken)
    if more > 0:
        print(f"sieve: and {more:,} more broken lines", file=sys.stderr)
