"""Rows looked at before anything starts: which of them are asked, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from rewards.records import PromptError
from rl.tasks.fitting import TooLongError
from rl.tasks.questions import Questions

LOOKED_AT = 10_000
"""Rows of a table whose images are looked at beforehand, as far as their kind and size, and whose tokens are counted,
where no rows are to be dropped; a second for each thousand or so. Further ones, and pixels that are broken, are found
when their prompt is asked for."""
NAMED = 3


@dataclass
class SourceReport:
    """The rows of one source.

    Attributes:
        rows: All of them.
        pictures: Those with pictures.
        resized: Those of whose pictures one is shown smaller or larger than it is.
        dropped: Those for which the model has no room.
        unreadable: Those that no prompt can be made of.
        longest: Tokens of the longest prompt that is left, and its id.
        named: What is wrong with the first dropped and unreadable ones.
    """

    rows: int = 0
    pictures: int = 0
    resized: int = 0
    dropped: int = 0
    unreadable: int = 0
    longest: tuple[int, str] = (0, "")
    named: list[str] = field(default_factory=list)


@dataclass
class Look:
    """What was seen of a table.

    Attributes:
        places: Of the rows that are asked, by source.
        answers: Their reference answers, by source, in the order of the places.
        reports: By source.
    """

    places: dict[str, list[int]] = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)
    reports: dict[str, SourceReport] = field(default_factory=dict)

    def references(self, table: str) -> Iterator[tuple[str, str]]:
        """Every reference answer, with where it stands in the table of that name."""
        for source, places in self.places.items():
            for position, answer in zip(places, self.answers[source], strict=True):
                yield f"{table}: row {position}", answer


def look_through(
    questions: Questions, problem: Callable[[PromptError], None], whole: bool, drop: bool, pixels: bool = False
) -> Look:
    """Read every row of a table once: this is where rows are seen at start.

    Args:
        questions: The table.
        problem: Is told what is wrong with a row; it may raise that.
        whole: Look at the pictures of every row, instead of the first `LOOKED_AT`.
        drop: Leave out, without a word to ``problem``, rows for which the model has no room.
        pixels: Read pictures to the last pixel, which takes ten times as long.
    """
    look, ids = Look(), set[str]()
    for position, (source, asked) in enumerate(questions.walk()):
        report = look.reports.setdefault(source, SourceReport())
        report.rows += 1
        try:
            if isinstance(asked, PromptError):
                raise asked
            if questions.columns.has("id") and asked.prompt.id in ids:
                raise questions.columns.problem(position, "id", f"{asked.prompt.id} stands twice; allowed is once")
            ids.add(asked.prompt.id)
            report.pictures += bool(asked.order)
            if whole or position < LOOKED_AT:
                fitted = questions.fitted(asked, pixels)
                report.resized += fitted.sizes != fitted.shown
                if (fitted.tokens or 0) > report.longest[0]:
                    report.longest = fitted.tokens or 0, asked.prompt.id
        except PromptError as error:
            too_long = isinstance(error, TooLongError)
            report.dropped += too_long
            report.unreadable += not too_long
            report.named += [str(error)] * (len(report.named) < NAMED)
            if not (too_long and drop):
                problem(error)
        else:
            look.places.setdefault(source, []).append(position)
            look.answers.setdefault(source, []).append(asked.prompt.answer)
    return look


def added(looks: list[Look], starts: list[int]) -> dict[str, np.ndarray]:
    """The rows of each source over all tables of a split, counted through from each table's start."""
    found: dict[str, list[np.ndarray]] = {}
    for look, start in zip(looks, starts, strict=True):
        for source, places in look.places.items():
            found.setdefault(source, []).append(np.array(places, dtype=np.int64) + start)
    return {source: np.concatenate(places) for source, places in sorted(found.items())}
