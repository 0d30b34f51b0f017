"""The offline tool: of a finished, annotated corpus, the most informative rollouts of every file.

Selection is the published one (arXiv 2602.04145): of the m scorable rollouts of a file the top max(1, int(m * ratio)),
the earlier ones first among equals, in file order; a chosen record that cannot be trained on is then left out.

Every file is read twice: once whole, for the scores, and once at the chosen lines. Both times its parts are spread over
worker processes and the results taken in order, so that nothing depends on the number of workers. What stays in memory
is 24 bytes a rollout of the file being read, 24 a chosen rollout, and, for a plot, 13 a rollout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from rewards.files.held_folder import scratch_folder
from rewards.files.plain_text import UnreadableTextError, plain_lines
from rewards.files.whole_file import replacing
from selection.offline.corpus import REMEMBERED, split
from selection.offline.output import FORMATS
from selection.offline.parts import (
    Chosen,
    Scored,
    Scoring,
    SelectionError,
    convert_chosen,
    score_part,
)
from selection.offline.plot import ScoredRollouts, plot_selection
from selection.offline.processes import workers

CHOSEN_AT_A_TIME = 1024
FILES_SHOWN = 60
"""Up to so many files the summary has a line for each."""
HEADINGS = ("read", "scorable", "chosen", "written", "left out", "broken")


@dataclass(frozen=True)
class Selection:
    """What to select, and where to.

    Attributes:
        files: Annotation files, in output order.
        scoring: How rollouts get their scores.
        ratio: Share of each file's scorable rollouts to choose, in (0, 1].
        output: Written under a temporary name beside it, then renamed.
        format: One of `selection.offline.output.FORMATS`.
        plot: A PNG to draw.
        strict: Stop at the first broken line.
        workers: Most processes; 1 is this process alone.
    """

    files: tuple[Path, ...]
    scoring: Scoring
    ratio: float
    output: Path
    format: str = "jsonl"
    plot: Path | None = None
    strict: bool = False
    workers: int = 1


def select(selection: Selection) -> Report:
    """Choose and write; if this raises, there is no new output.

    Raises:
        SelectionError: A file that holds no annotation records, or none at all that could be written, a broken line in
            strict mode, a selector that fails, or a file that changed while it was read.
        BrokenProcessPool: A worker process died.
        OSError: A file cannot be read or written.
    """
    output = FORMATS[selection.format]
    score = partial(score_part, selection.scoring, selection.plot is not None)
    convert = partial(convert_chosen, output.convert, output.pack)
    report = Report()
    with scratch_folder() as plain, replacing(selection.output) as temporary:
        contents = [_content(file, Path(plain, str(place))) for place, file in enumerate(selection.files)]
        parts = [part for place, content in enumerate(contents) for part in split(content, place)]
        processes = min(selection.workers, len(parts))
        with output.open(temporary) as write, workers(processes, (score, convert)) as run:
            results = groupby(run(score, parts), key=lambda scored: scored.part.place)
            choices = [_choose(selection, list(_accepted(selection, scored, report)), report) for _, scored in results]
            tasks = (part for choice in choices for part in _portions(choice.chosen))
            for converted in run(convert, tasks):
                write(converted.block)
                file = report.files[converted.chosen.place]
                file.written += converted.written
                file.left_out.update(converted.left_out)
        report.check_written()
        if selection.plot is not None:
            shown = [choice.rollouts for choice in choices if choice.rollouts is not None]
            with replacing(selection.plot) as picture:
                plot_selection(picture, shown, selection.scoring.name, selection.ratio)
    return report


def _content(file: Path, target: Path) -> Path:
    try:
        return plain_lines(file, target)
    except UnreadableTextError as error:
        raise SelectionError(f"{file}: {error}") from None


def top(scores: np.ndarray, ratio: float) -> np.ndarray:
    """The places of the highest scores, in order of place: max(1, int(m * ratio)) of m, earlier ones among equals."""
    count = max(1, int(len(scores) * ratio))
    if np.isnan(scores).any():
        # With such scores the order is an accident of the sort; the published one is Python's.
        ranked = sorted(range(len(scores)), key=scores.tolist().__getitem__, reverse=True)
        return np.sort(ranked[:count])
    return np.sort(np.argsort(-scores, kind="stable")[:count])


@dataclass(frozen=True)
class _Choice:
    chosen: Chosen
    rollouts: ScoredRollouts | None


def _accepted(selection: Selection, parts: Iterable[Scored], report: Report) -> Iterator[Scored]:
    """The parts of one file as they come in; its report begins here, and strict mode stops here."""
    file = FileReport(selection.files[len(report.files)])
    report.files.append(file)
    line_count = 0
    for part in parts:
        broken = [(file.file, line_count + line + 1, reason) for line, reason in part.broken]
        if broken and selection.strict:
            path, line, reason = broken[0]
            raise SelectionError(f"{path}:{line}: {reason}; --strict stops at the first broken line")
        report.broken += broken[: REMEMBERED - len(report.broken)]
        file.broken += part.broken_count
        file.read += part.records
        file.not_scorable.update(part.not_scorable)
        line_count += part.line_count
        yield part
    file.check_records(report.broken)


def _choose(selection: Selection, parts: list[Scored], report: Report) -> _Choice:
    file = report.files[-1]
    first_lines = np.cumsum([1, *(part.line_count for part in parts)])
    lines = np.concatenate([part.lines + first for part, first in zip(parts, first_lines, strict=False)])
    offsets = np.concatenate([part.offsets for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    places = top(scores, selection.ratio) if len(scores) else np.zeros(0, dtype=np.int64)
    file.scorable, file.chosen = len(scores), len(places)
    chosen = Chosen(
        file.file, parts[0].part.content, len(report.files) - 1, offsets[places], lines[places], scores[places]
    )
    if selection.plot is None:
        return _Choice(chosen, None)
    is_chosen = np.zeros(len(scores), dtype=bool)
    is_chosen[places] = True
    mixture, reliability = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("mixture", "reliability")
    )
    return _Choice(chosen, ScoredRollouts(scores.astype(np.float32), mixture, reliability, is_chosen))


def _portions(chosen: Chosen) -> Iterator[Chosen]:
    for start in range(0, len(chosen.offsets), CHOSEN_AT_A_TIME):
        part = slice(start, start + CHOSEN_AT_A_TIME)
        rollouts = chosen.offsets[part], chosen.lines[part], chosen.scores[part]
        yield Chosen(chosen.file, chosen.content, chosen.place, *rollouts)


@dataclass
class FileReport:
    """Numbers of one annotation file.

    Attributes:
        file: Which one.
        read: Lines that are not blank: scorable, not scorable, or broken.
        scorable: Rollouts that got a score.
        chosen: Those that were chosen: written or left out.
        written: Training records.
        left_out: Chosen ones that cannot be trained on, by reason.
        not_scorable: By reason.
        broken: Lines that are no annotation records.
    """

    file: Path
    read: int = 0
    scorable: int = 0
    chosen: int = 0
    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    not_scorable: Counter[str] = field(default_factory=Counter)
    broken: int = 0

    @property
    def numbers(self) -> tuple[int, ...]:
        """The values under `HEADINGS`."""
        return self.read, self.scorable, self.chosen, self.written, self.left_out.total(), self.broken

    def check_records(self, broken: Sequence[tuple[Path, int, str]]) -> None:
        """Whether all lines are broken, given the first broken ones of all files.

        Raises:
            SelectionError: They are.
        """
        if self.broken == self.read > 0:
            first = next((f"; line {line}: {reason}" for file, line, reason in broken if file == self.file), "")
            raise SelectionError(f"{self.file}: no line is an annotation record, of {self.read:,}{first}")


@dataclass
class Report:
    """Numbers of a whole corpus, and its first broken lines: file, line number from 1, reason."""

    files: list[FileReport] = field(default_factory=list)
    broken: list[tuple[Path, int, str]] = field(default_factory=list)

    @property
    def totals(self) -> tuple[int, ...]:
        """The sums over all files, under `HEADINGS`."""
        return tuple(map(sum, zip(*(file.numbers for file in self.files), strict=True)))

    def check_written(self) -> None:
        """Whether anything was written.

        Raises:
            SelectionError: Nothing was; with the reasons.
        """
        if not any(file.written for file in self.files):
            reasons = sum((file.not_scorable + file.left_out for file in self.files), Counter[str]())
            told = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.most_common())
            empty = f"{self.files[0].file}: " if len(self.files) == 1 else ""
            raise SelectionError(f"{empty}there is no record to train on: {told or 'nothing is in it'}")

    def summary(self) -> str:
        """An aligned table with one row a file if there are few, the totals, and the reasons with their numbers."""
        shown = self.files if 1 < len(self.files) <= FILES_SHOWN else []
        total = f"{len(self.files):,} files" if len(self.files) > 1 else str(self.files[0].file)
        rows = [("", *HEADINGS), *((str(file.file), *_grouped(file.numbers)) for file in shown)]
        rows.append((total, *_grouped(self.totals)))
        table = _aligned(rows)
        for title, reasons in (
            ("left out of the chosen:", sum((file.left_out for file in self.files), Counter())),
            ("not scorable:", sum((file.not_scorable for file in self.files), Counter())),
        ):
            if reasons:
                table += ["", title, *_aligned([(f"  {reason}", f"{n:,}") for reason, n in reasons.most_common()])]
        empty = [str(file.file) for file in self.files if file.scorable == 0]
        if empty:
            table += ["", "skipped, nothing in them is scorable:", *(f"  {name}" for name in empty)]
        return "\n".join(table)


def _grouped(numbers: Sequence[int]) -> list[str]:
    return [f"{number:,}" for number in numbers]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
