"""The body of ``sieve select``: checks what it was given, selects, and says what it did."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from tempfile import TemporaryFile

from selection.config import SelectionConfig
from selection.offline.choosing import Report, Selection, select
from selection.offline.corpus import split
from selection.offline.output import FORMATS
from selection.offline.parts import Scoring, SelectionError
from selection.selectors import (
    NEED_COMPLEXITY,
    NEED_COUNTS,
    NEED_STEP_SCORES,
    SELECTORS,
    Selector,
    make_selector,
)

OFFLINE = [name for name in SELECTORS if name not in NEED_STEP_SCORES | NEED_COMPLEXITY]


@dataclass(frozen=True)
class Options:
    """The command line of ``sieve select``; `rl.cli` describes each field. ``workers`` None is all CPUs."""

    annotations: Sequence[Path]
    output: Path | None
    selector: str
    ratio: float
    alpha: float
    counts: bool
    strict: bool
    format: str
    plot: Path | None
    workers: int | None
    seed: int


def run(options: Options) -> None:
    """Select, and print the summary; the first broken lines go to stderr.

    Raises:
        SelectionError: An option or an input is wrong.
        BrokenProcessPool: A worker process died.
        OSError: A file cannot be read or written.
    """
    selection = _selection(options)
    report = select(selection)
    _name_broken_lines(report)
    print(f"{report.summary()}\n\nwritten  {selection.output}")
    if selection.plot is not None:
        print(f"plot     {selection.plot}")


def _selection(options: Options) -> Selection:
    _check(0 < options.ratio <= 1, f"--ratio {options.ratio:g}: allowed is above 0 and at most 1")
    _check(0 <= options.alpha < inf, f"--alpha {options.alpha:g}: allowed is 0 or more")
    _check(options.seed >= 0, f"--seed {options.seed}: allowed is 0 or more")
    _check(options.workers is None or options.workers >= 1, f"--workers {options.workers}: allowed is 1 or more")
    _check(options.format in FORMATS, f"--format {options.format!r}: allowed is one of {', '.join(FORMATS)}")
    _check(bool(options.annotations), "name annotation files, or folders with *.jsonl files")
    files = tuple(file for path in options.annotations for file in _files(path))
    for place, file in enumerate(files):
        _check(not any(file.samefile(earlier) for earlier in files[:place]), f"{file} is given twice")
    if options.output is None:
        raise SelectionError("name the output with -o OUT")
    _check_target(options.output, "-o", files)
    if options.plot is not None:
        _check_target(options.plot, "--plot", files)
        _check(options.plot.absolute() != options.output.absolute(), f"--plot {options.plot} is the output, too")
    scoring = Scoring(
        options.selector,
        _selector(options),
        counts=options.counts or options.selector in NEED_COUNTS,
        keep_nan=options.selector == "bis" and not options.counts,
        seed=options.seed,
    )
    most = sum(len(split(file, place)) for place, file in enumerate(files))
    workers = min(options.workers or len(os.sched_getaffinity(0)), most)
    return Selection(
        files, scoring, options.ratio, options.output, options.format, options.plot, options.strict, workers
    )


def _files(path: Path) -> Iterator[Path]:
    files = sorted(file for file in path.glob("*.jsonl") if file.is_file()) if path.is_dir() else [path]
    _check(bool(files), f"{path} has no *.jsonl files")
    for file in files:
        _check(file.exists(), f"{file} does not exist")
        _check(file.is_file(), f"{file} is no file that can be read twice")
        _check(os.access(file, os.R_OK), f"{file} cannot be read")
        yield file


def _check_target(target: Path, option: str, files: Sequence[Path]) -> None:
    _check(target.parent.is_dir(), f"{option} {target}: there is no folder {target.parent}")
    try:
        with TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise SelectionError(f"{option} {target}: the folder {target.parent} cannot be written to") from error
    if target.exists():
        _check(target.is_file(), f"{option} {target} exists and is no file")
        _check(not any(target.samefile(file) for file in files), f"{option} {target} is one of the inputs")


def _selector(options: Options) -> Selector:
    name = options.selector
    if name in OFFLINE:
        return make_selector(name, SelectionConfig(alpha=options.alpha))
    for names, need in ((NEED_STEP_SCORES, "an MPRM's step scores"), (NEED_COMPLEXITY, "the images' entropy")):
        _check(
            name not in names,
            f"--selector {name} needs {need}, which annotation files do not have; allowed are {', '.join(OFFLINE)}, "
            "or package.module:Name",
        )
    from rl.config.users_parts import resolve_made
    from rl.errors import ConfigError

    sys.path.insert(0, str(Path.cwd()))
    try:
        builtin = {offline: make_selector(offline, SelectionConfig()) for offline in OFFLINE}
        return resolve_made("--selector", name, builtin)
    except ConfigError as error:
        raise SelectionError(str(error)) from error


def _name_broken_lines(report: Report) -> None:
    for file, line, reason in report.broken:
        print(f"sieve: {file}:{line}: {reason}", file=sys.stderr)
    more = sum(file.broken for file in report.files) - len(report.broken)
    if more > 0:
        print(f"sieve: and {more:,} more broken lines", file=sys.stderr)


def _check(fine: bool, message: str) -> None:
    if not fine:
        raise SelectionError(message)
