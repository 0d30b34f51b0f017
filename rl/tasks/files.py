"""Prompts from tables: local files, folders of the ``datasets`` library, and the Hugging Face hub."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, combinations, product
from pathlib import Path

from rewards.records import Prompt, PromptError
from rl.tasks.columns import Columns, check_fields
from rl.tasks.fitting import NO_BOUNDS, Bounds, Room
from rl.tasks.looking import Look, added, look_through
from rl.tasks.order import Order
from rl.tasks.questions import Questions, Reading
from rl.tasks.tables import Table, open_table
from rl.tasks.task import Split


@dataclass(frozen=True)
class _Tables:
    """The tables of a split, the number of each one's first row, what was seen of them, and their order."""

    questions: list[Questions]
    starts: list[int]
    looks: list[Look]
    order: Order


class FileTask:
    r"""Questions from the user's own files, or from published datasets as they are.

    A row holds a question, a reference answer, and perhaps one image or a list of them: paths relative to the file that
    stay within its folder, or the bytes of an image file, plain or as tables of the `datasets` library carry them.
    Values are what stands in the file; see `rl.tasks.values.as_text`. An answer that is one ``\boxed{…}`` is what is in
    it. Which images are allowed, and what becomes of them, `rewards.files.images` says. Images may be spread over
    several columns (``images: image_*``), and placeholders in the question say where they belong; see
    `rl.tasks.images.refer_to_images`. Fields that are only read where ``columns`` names a column:

        id         names the prompt, in place of the row's number
        source     the kind of question; without a column of that name, the file's, the config's or the dataset's name
        choices    options, which follow the question as lines ``(A) …``, unless they stand in it already. The
                   reference answer is then the letter of the right one, whatever the verifier, and whether the table
                   gives its letter or its text. A row without choices is asked as it is.
        unit       of the answer; added to the question, as ``(Unit: cm)``
        precision  decimal places of the answer; added likewise

    Rows stay on the disk, and images are read when a prompt is asked for; see `rl.tasks.looking` for what is found
    before.

    Args:
        train_files, heldout_files: Tables; see `rl.tasks.tables.open_table` for how they are named.
        columns: Which column holds a field, where the names differ, for example ``{"question": "problem"}``.
        instruction: Added to every question, on a line of its own.
        image_root: The folder that image paths are relative to, and stay within; None for each table's own.
        bounds: On the pixels of a picture.
        room: What the model has room for; None to leave that to the engine.
        shuffle: Whether training prompts come in an order by chance.
        mixture: Share of the training prompts of each source; empty for every row once a pass.
        seed: Of the order.

    Raises:
        ValueError: A table or a column is missing or of an unknown kind, a question, an answer or its choice is
            missing, rows are in both splits, or twice in one, an image cannot be read, a prompt does not fit, or
            ``mixture`` names a source that is not there; names the table, and what is allowed.
    """

    def __init__(
        self,
        train_files: Sequence[str],
        heldout_files: Sequence[str],
        columns: Mapping[str, str] | None = None,
        instruction: str = "",
        image_root: str | None = None,
        bounds: Bounds = NO_BOUNDS,
        room: Room | None = None,
        shuffle: bool = False,
        mixture: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        reading = Reading(instruction, image_folder(image_root), bounds, room)
        check_fields(columns or {})
        train, heldout = open_tables(train_files, heldout_files)

        def looked_through(tables: Sequence[Table], mixture: Mapping[str, float], shuffle: bool) -> _Tables:
            questions = [Questions(Columns(table, columns or {}), reading) for table in tables]
            return _looked_through(questions, reading, mixture, shuffle, seed)

        self._splits: dict[Split, _Tables] = {
            "train": looked_through(train, mixture or {}, shuffle),
            "heldout": looked_through(heldout, {}, False),
        }
        named = {source for split in self._splits.values() for look in split.looks for source in look.places}
        self.sources = tuple(sorted(named))

    def prompt(self, split: Split, index: int) -> Prompt:
        """The prompt of a number in the split's order, from the first row again after the last."""
        tables = self._splits[split]
        row = tables.order.row(index)
        table = bisect_right(tables.starts, row) - 1
        return tables.questions[table].prompt(row - tables.starts[table])

    def passes(self, count: int) -> float:
        """Passes over the training rows in the first ``count`` prompts; see `rl.tasks.order.Order.passes`."""
        return self._splits["train"].order.passes(count)

    def references(self, split: Split) -> Iterator[tuple[str, str]]:
        """Every reference answer of a split, with where it stands; no image is opened."""
        tables = self._splits[split]
        for questions, look in zip(tables.questions, tables.looks, strict=True):
            yield from look.references(questions.columns.table.name)


def open_tables(
    train_files: Sequence[str], heldout_files: Sequence[str], sample: int | None = None
) -> tuple[list[Table], list[Table]]:
    """The tables of both splits; see `FileTask`, and for ``sample`` `rl.tasks.tables.open_table`.

    Raises:
        ValueError: A table is missing or of an unknown kind, or rows are in both splits, or twice in one.
    """
    train, heldout = [[open_table(entry, sample) for entry in entries] for entries in (train_files, heldout_files)]
    _check_apart(train, heldout)
    return train, heldout


def _looked_through(
    tables: list[Questions], reading: Reading, mixture: Mapping[str, float], shuffle: bool, seed: int
) -> _Tables:
    drop = reading.room is not None and reading.room.policy == "drop"
    looks = [look_through(questions, _refuse, whole=drop, drop=drop) for questions in tables]
    starts = list(accumulate((len(questions) for questions in tables[:-1]), initial=0))
    rows = added(looks, starts)
    if not rows:
        first = next((name for look in looks for report in look.reports.values() for name in report.named), "")
        raise ValueError(f"{tables[0].columns.table.name}: every row is dropped; the first: {first}")
    check_mixture(mixture, rows)
    return _Tables(tables, starts, looks, Order(rows, mixture, shuffle, seed))


def check_mixture(mixture: Mapping[str, float], sources: Iterable[str]) -> None:
    """Raises ValueError if ``task.mixture`` names a source that no training prompt is of."""
    there = sorted(sources)
    if unknown := [source for source in mixture if source not in there]:
        raise ValueError(
            f"task.mixture: no source {unknown[0]!r} among the training prompts; there are {', '.join(there)}"
        )


def _refuse(error: PromptError) -> None:
    raise error


def image_folder(named: str | None) -> Path | None:
    """The folder of ``task.image_root``.

    Raises:
        ValueError: It is none.
    """
    if named is not None and not Path(named).is_dir():
        raise ValueError(f"task.image_root: {named!r} is no folder; allowed is one, or null for each table's own")
    return None if named is None else Path(named)


def _check_apart(train: Sequence[Table], heldout: Sequence[Table]) -> None:
    """No row is a prompt of both splits, or twice a prompt of one: those would have the same id."""
    for both, pairs in (
        (True, product(train, heldout)),
        (False, chain(combinations(train, 2), combinations(heldout, 2))),
    ):
        for table, other in pairs:
            if any(mine.overlaps(theirs) for mine in table.parts for theirs in other.parts):
                where = "in both task.train_files and task.heldout_files" if both else "named twice"
                also = "" if other.name == table.name else f", as {other.name}"
                raise ValueError(f"{table.name}: is {where}{also}")
