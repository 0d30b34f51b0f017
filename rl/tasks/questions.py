"""The questions of one table: what a row asks, which answer it wants, and which pictures it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import PIL.Image

from rewards.files.images import OutsideFolderError, UnreadableImageError, check_image, read_image
from rewards.records import Prompt, PromptError
from rewards.verification.extraction import boxed_text
from rl.tasks.choices import answer_letter, first_of_several, letter_choices, read_choices, stated_letter
from rl.tasks.columns import Columns
from rl.tasks.fitting import NO_BOUNDS, Bounds, Room, Size
from rl.tasks.images import image_file, refer_to_images
from rl.tasks.values import as_number, as_text

Used = TypeVar("Used")


@dataclass(frozen=True)
class Reading:
    """How the rows of all tables are read.

    Attributes:
        instruction: Added to every question, on a line of its own.
        image_root: The folder that image paths are relative to, and stay within; None for each table's own.
        bounds: On the pixels of a picture.
        room: What the model has room for; None to leave that to the engine.
    """

    instruction: str = ""
    image_root: Path | None = None
    bounds: Bounds = NO_BOUNDS
    room: Room | None = None


@dataclass(frozen=True)
class Asked:
    """A row without the pixels of its pictures.

    Attributes:
        position: Its place in the table.
        prompt: All of it but the pictures.
        images: What the row holds, None where there is no image.
        order: Places in ``images`` of the pictures that the question shows.
    """

    position: int
    prompt: Prompt
    images: Sequence[Any]
    order: Sequence[int]


@dataclass(frozen=True)
class Fitted:
    """A row's pictures as they will be shown.

    Attributes:
        sizes: In the file.
        shown: To the model.
        tokens: Of the whole prompt; None where nobody counts them.
    """

    sizes: list[Size]
    shown: list[Size]
    tokens: int | None


class Questions:
    """The prompts of one table.

    Args:
        columns: Its rows.
        reading: How they are read.
    """

    def __init__(self, columns: Columns, reading: Reading) -> None:
        self.columns, self._reading = columns, reading
        self._folder = reading.image_root or columns.table.folder

    def __len__(self) -> int:
        return len(self.columns)

    def prompt(self, position: int) -> Prompt:
        """The prompt of a row.

        Raises:
            PromptError: No prompt can be made of it; names the row.
        """
        asked = self.asked(position, self.columns.row(position))
        pictures = [self._image(asked, place, read_image) for place in asked.order]
        bounded = [_sized(picture, self._reading.bounds.size(picture.size)) for picture in pictures]
        if (room := self._reading.room) is not None and room.policy == "shrink":
            sizes = [picture.size for picture in bounded]
            shown, _ = room.fitted(asked.prompt, sizes, self._reading.bounds.least)
            bounded = [_sized(picture, size) for picture, size in zip(pictures, shown, strict=True)]
        return replace(asked.prompt, images=tuple(bounded), columns=self.columns.everything(position))

    def walk(self) -> Iterator[tuple[str, Asked | PromptError]]:
        """The source of every row and what it asks, in order; where no prompt can be made of it, the error that says
        why."""
        for position, row in enumerate(self.columns.walk(range(len(self)))):
            source = self.columns.table.source
            try:
                source = self.columns.source(row, position)
                yield source, self.asked(position, row)
            except PromptError as error:
                yield source, error

    def asked(self, position: int, row: Mapping[str, Any]) -> Asked:
        """What a row asks.

        Raises:
            PromptError: A field is missing or cannot be; names the row.
        """
        choices = self._choices(position, row)
        question, options, order = self._texts(position, row, choices)
        if not question.strip() and not order:
            raise self.columns.problem(position, "question", "no question, and no image that may hold one")
        extras = [*self._notes(position, row), letter_choices(options)]
        lines = [question, *(extra for extra in extras if extra not in question), self._reading.instruction]
        name = self.columns.text(row, "id", position) if self.columns.has("id") else str(position)
        if name is None:
            raise self.columns.problem(position, "id", "no id; allowed is text or a number")
        prompt = Prompt(
            id=f"{self.columns.table.name}:{name}",
            source=self.columns.source(row, position),
            question="\n".join(filter(None, lines)),
            images=(),
            answer=self._answer(position, row, choices),
        )
        return Asked(position, prompt, row["images"], order)

    def fitted(self, asked: Asked, pixels: bool = False) -> Fitted:
        """A row's pictures, as far as it takes to know their kind and size, or to the last of their pixels.

        Raises:
            TooLongError: The model has no room for it.
            PromptError: A picture cannot be read, or the question holds a special token; names the row.
        """
        size = _size_of_pixels if pixels else check_image
        sizes = [self._image(asked, place, size) for place in asked.order]
        bounds, room = self._reading.bounds, self._reading.room
        shown = [bounds.size(size) for size in sizes]
        if room is None:
            return Fitted(sizes, shown, None)
        return Fitted(sizes, *room.fitted(asked.prompt, shown, bounds.least))

    @cached_property
    def _letter_first(self) -> bool:
        """Whether every answer to a question with choices is a letter; such as can be read."""
        for position, row in enumerate(self.columns.walk(range(len(self)), "choices", "answer")):
            try:
                choices, answer = self._choices(position, row), as_text(row["answer"])
            except ValueError:
                continue
            if choices and not stated_letter(answer or "", len(choices)):
                return False
        return True

    def _texts(self, position: int, row: Mapping[str, Any], choices: Sequence[str]) -> tuple[str, list[str], list[int]]:
        """See `rl.tasks.images.refer_to_images`."""
        question = row["question"] if row["question"] == "" else self.columns.text(row, "question", position)
        if question is None:
            raise self.columns.problem(position, "question", "no question; allowed is text or a number")
        try:
            return refer_to_images(question, choices, row["images"])
        except ValueError as error:
            raise self.columns.problem(position, "question", error) from None

    def _choices(self, position: int, row: Mapping[str, Any]) -> list[str]:
        try:
            return read_choices(row.get("choices"))
        except ValueError as error:
            raise self.columns.problem(position, "choices", error) from None

    def _notes(self, position: int, row: Mapping[str, Any]) -> list[str]:
        """What a question adds on how its answer is to be written."""
        unit, precision = self.columns.text(row, "unit", position), as_number(row.get("precision"))
        notes = [f"(Unit: {unit})"] if unit is not None else []
        return notes if precision is None else [*notes, f"(Decimal places: {precision:g})"]

    def _answer(self, position: int, row: Mapping[str, Any], choices: Sequence[str]) -> str:
        answer = self.columns.text(row, "answer", position)
        if answer is None:
            raise self.columns.problem(position, "answer", "no answer; allowed is text or a number")
        answer = unboxed(answer)
        if not choices:
            return first_of_several(answer) if self.columns.has("choices") else answer
        try:
            return answer_letter(answer, choices, self._letter_first)
        except ValueError as error:
            raise self.columns.problem(position, "answer", error) from None

    def _image(self, asked: Asked, place: int, use: Callable[[Path | bytes], Used]) -> Used:
        try:
            return use(image_file(asked.images[place], self._folder))
        except UnreadableImageError as error:
            which = f"{place + 1} of {len(asked.images)}: " if len(asked.images) > 1 else ""
            hint = "; task.image_root names another folder" if isinstance(error, OutsideFolderError) else ""
            raise self.columns.problem(asked.position, "images", f"{which}{error}{hint}") from None


def unboxed(answer: str) -> str:
    r"""An answer that is nothing but one ``\boxed{…}`` (as those of ViRL39K are) without it.

    >>> unboxed(r"$\boxed{\frac{1}{2}}$"), unboxed(r"\boxed{1} or \boxed{2}"), unboxed("4")
    ('\\frac{1}{2}', '\\boxed{1} or \\boxed{2}', '4')
    """
    inside = boxed_text(answer)
    whole = inside is not None and "".join(answer.strip("$ \n").split()) == "".join(rf"\boxed{{{inside}}}".split())
    return inside if inside and whole else answer


def _size_of_pixels(file: Path | bytes) -> Size:
    return read_image(file).size


def _sized(picture: PIL.Image.Image, size: Size) -> PIL.Image.Image:
    return picture if picture.size == size else picture.resize(size, PIL.Image.Resampling.BICUBIC)
