"""What `sieve select` did, file by file, and the summary that it prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

FILES_SHOWN = 60
"""Up to so many files the summary has a line for each."""
HEADINGS = ("read", "scorable", "chosen", "written", "left out", "broken")


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


@dataclass
class Report:
    """Numbers of a whole corpus, and its first broken lines: file, line number from 1, reason."""

    files: list[FileReport] = field(default_factory=list)
    broken: list[tuple[Path, int, str]] = field(default_factory=list)

    @property
    def totals(self) -> tuple[int, ...]:
        """The sums over all files, under `HEADINGS`."""
        return tuple(map(sum, zip(*(file.numbers for file in self.files), strict=True)))

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
