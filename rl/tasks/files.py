"""Prompts from tables: local files, folders of the ``datasets`` library, and the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, combinations, islice, product
from pathlib import Path
from typing import Any, TypeVar

from rewards.files.images import (
    OutsideFolderError,
    UnreadableImageError,
    check_image,
    read_image,
)
from rewards.records import Prompt
from rl.tasks.choices import answer_letter, first_of_several, letter_choices, read_choices, stated_letter
from rl.tasks.columns import Columns, check_fields
from rl.tasks.images import image_file, refer_to_images
from rl.tasks.tables import Table, open_table
from rl.tasks.task import Split

Used = TypeVar("Used")

LOOKED_AT = 10_000
"""Rows of a table whose images are looked at beforehand, as far as their kind and size; a second for each thousand or
so. Further ones, and pixels that are broken, are found when their prompt is asked for."""


class FileTask:
    """Questions from the user's own files, or from published datasets as they are.

    A row holds a question, a reference answer, and one image or a list of them: paths relative to the file that stay
    within its folder, or the bytes of an image file, plain or as tables of the `datasets` library carry them. Which
    images are allowed, and what becomes of them, `rewards.files.images` says. Images may be spread over several
    columns (``images: image_*``), and placeholders in the question say where they belong; see
    `rl.tasks.images.refer_to_images`. Fields that are only read where ``columns`` names a column:

        source     the kind of question; without a column of that name, the file's, the config's or the dataset's name
        choices    options, which follow the question as lines ``(A) …``, unless they stand in it already. The
                   reference answer is then the letter of the right one, whatever the verifier, and whether the table
                   gives its letter or its text. A row without choices is asked as it is.
        unit       of the answer; added to the question, as ``(Unit: cm)``
        precision  decimal places of the answer; added likewise

    Rows stay on the disk, and images are read when a prompt is asked for; see `LOOKED_AT` for what is found before.

    Args:
        train_files, heldout_files: Tables; see `rl.tasks.tables.open_table` for how they are named.
        columns: Which column holds a field, where the names differ, for example ``{"question": "problem"}``.
        instruction: Added to every question, on a line of its own.
        image_root: The folder that image paths are relative to, and stay within; None for each table's own.

    Raises:
        ValueError: A table or a column is missing or of an unknown kind, a question, an answer or its choice is
            missing, rows are in both splits, or twice in one, or an image cannot be read; names the table, and what is
            allowed.
    """

    def __init__(
        self,
        train_files: Sequence[str],
        heldout_files: Sequence[str],
        columns: Mapping[str, str] | None = None,
        instruction: str = "",
        image_root: str | None = None,
    ) -> None:
        self._instruction = instruction
        check_fields(columns or {})
        root = _image_root(image_root)
        train, heldout = [[open_table(entry) for entry in entries] for entries in (train_files, heldout_files)]
        _check_apart(train, heldout)
        self._splits: dict[Split, list[_Questions]] = {
            "train": [_Questions(Columns(table, columns or {}), root) for table in train],
            "heldout": [_Questions(Columns(table, columns or {}), root) for table in heldout],
        }
        named = {source for each in self._splits.values() for questions in each for source in questions.rows.sources()}
        self.sources = tuple(sorted(named))

    def prompt(self, split: Split, index: int) -> Prompt:
        """Row ``index`` of the split's tables, in order, from the first again after the last."""
        tables = self._splits[split]
        position = index % sum(len(questions.rows) for questions in tables)
        for questions in tables:
            if position < len(questions.rows):
                return questions.prompt(position, self._instruction)
            position -= len(questions.rows)
        raise AssertionError("the position lies within the tables")

    def references(self, split: Split) -> Iterator[tuple[str, str]]:
        """Every reference answer of a split, with where it stands; no image is opened."""
        for questions in self._splits[split]:
            yield from questions.references()


class _Questions:
    """The prompts of one table."""

    def __init__(self, rows: Columns, image_root: Path | None) -> None:
        self.rows = rows
        self._image_folder = image_root or rows.table.folder
        self._letter_first = False
        if rows.has("choices"):
            self._letter_first = self._check_choices()
        self._look_at_images()

    def prompt(self, position: int, instruction: str) -> Prompt:
        row, table = self.rows.row(position), self.rows.table
        choices = self._choices(position, row)
        question, options, order = self._texts(position, row, choices)
        extras = [*_notes(row), letter_choices(options)]
        lines = [question, *(extra for extra in extras if extra not in question), instruction]
        return Prompt(
            id=f"{table.name}:{position}",
            source=self.rows.source(row.get("source")),
            question="\n".join(filter(None, lines)),
            images=tuple(self._image(position, row["images"], index, read_image) for index in order),
            answer=self._answer(position, row, choices),
            columns=self.rows.everything(position),
        )

    def references(self) -> Iterator[tuple[str, str]]:
        fields = [field for field in ("choices", "answer") if self.rows.has(field)]
        for position, row in enumerate(self.rows.walk(*fields)):
            answer = self._answer(position, row, self._choices(position, row))
            yield f"{self.rows.table.name}: row {position}", answer

    def _look_at_images(self) -> None:
        fields = [field for field in ("question", "choices", "images") if self.rows.has(field)]
        for position, row in enumerate(islice(self.rows.walk(*fields), LOOKED_AT)):
            if any(image is not None for image in row["images"]):
                _, _, order = self._texts(position, row, self._choices(position, row))
                for index in order:
                    self._image(position, row["images"], index, check_image)

    def _texts(self, position: int, row: Mapping[str, Any], choices: Sequence[str]) -> tuple[str, list[str], list[int]]:
        """See `rl.tasks.images.refer_to_images`."""
        try:
            return refer_to_images(str(row["question"]), choices, row["images"])
        except ValueError as error:
            raise self.rows.problem(position, "question", error) from None

    def _check_choices(self) -> bool:
        """Read all answers to questions with choices once; whether each of them is a letter."""
        letters = True
        for position, row in enumerate(self.rows.walk("choices", "answer")):
            if choices := self._choices(position, row):
                self._answer(position, row, choices)
                letters = letters and bool(stated_letter(str(row["answer"]), len(choices)))
        return letters

    def _choices(self, position: int, row: Mapping[str, Any]) -> list[str]:
        try:
            return read_choices(row.get("choices"))
        except ValueError as error:
            raise self.rows.problem(position, "choices", error) from None

    def _answer(self, position: int, row: Mapping[str, Any], choices: Sequence[str]) -> str:
        answer = str(row["answer"])
        if not choices:
            return first_of_several(answer) if self.rows.has("choices") else answer
        try:
            return answer_letter(answer, choices, self._letter_first)
        except ValueError as error:
            raise self.rows.problem(position, "answer", error) from None

    def _image(self, position: int, images: Sequence[Any], index: int, use: Callable[[Path | bytes], Used]) -> Used:
        try:
            return use(image_file(images[index], self._image_folder))
        except UnreadableImageError as error:
            which = f"{index + 1} of {len(images)}: " if len(images) > 1 else ""
            hint = "; task.image_root names another folder" if isinstance(error, OutsideFolderError) else ""
            raise self.rows.problem(position, "images", f"{which}{error}{hint}") from None


def _notes(row: Mapping[str, Any]) -> list[str]:
    """What a question adds on how its answer is to be written."""
    unit, precision = row.get("unit"), row.get("precision")
    notes = [f"(Unit: {unit})"] if unit not in (None, "") else []
    return [*notes, f"(Decimal places: {precision:g})"] if isinstance(precision, int | float) else notes


def _image_root(named: str | None) -> Path | None:
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
