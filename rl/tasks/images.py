"""Images of a question: found in whatever a table holds, and named where the text refers to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.files.images import UnreadableImageError, image_path
from rl.tasks.values import WrittenNumber

_PLACEHOLDER = re.compile(r"<image(?:[ _]?(\d+))?>")
_RUN = r"<image \d+>(?:\s*<image \d+>)*"
# Before the first sentence, or after the last one, a placeholder says only that there is an image.
_LEADING = re.compile(rf"^\s*{_RUN}(?:(?=\w)|\s+(?=[^\sa-z])|\s*$)")
_TRAILING = re.compile(rf"(?<=[.?!])\s*{_RUN}\s*$")
_ALONE = re.compile(r"(?m)^[ \t]*<image>[ \t]*\n?|(?<![ \t])[ \t]*<image>")


def image_file(image: Any, folder: Path) -> Path | bytes:
    """Where an image is to be read from, for `rewards.files.images`: its path, relative to a folder that it must not
    lead out of, or the bytes of a file. A table may hold either, or a struct of the two, as the `datasets` library
    stores images.

    Raises:
        UnreadableImageError: It is something else, or lies elsewhere.
    """
    data = image.get("bytes") if isinstance(image, Mapping) else image
    if isinstance(data, bytes):
        return data
    path = image.get("path") if isinstance(image, Mapping) else image
    if isinstance(path, str) and not isinstance(path, WrittenNumber):
        return image_path(folder, path)
    kind = "a number" if isinstance(image, WrittenNumber) else f"of type {type(image).__name__}"
    raise UnreadableImageError(f"image cannot be read: it is {kind}; allowed is a path, or what an image file holds")


def refer_to_images(question: str, choices: Sequence[str], images: Sequence[Any]) -> tuple[str, list[str], list[int]]:
    """Texts without image placeholders, and which images they want, in the order in which they refer to them.

    ``<image>`` stands for the next image, ``<image 2>`` for the second one of the row. Placeholders before the first
    sentence or after the last one are taken out, and so is the only ``<image>`` of a single image; every other becomes
    "image 2", after the image's place in the prompt. Where a text numbers its images, those that it does not name are
    left out (they belong to explanations); else they follow at the end.

    Args:
        question: The question.
        choices: Its options, which may stand for images as well.
        images: What the row holds, None where there is no image.

    Returns:
        Question and choices, and indices into ``images``.

    Raises:
        ValueError: They refer to an image that is not there.

    >>> refer_to_images("<image>Find x.", [], ["a.png"])
    ('Find x.', [], [0])
    >>> refer_to_images("Which is like <image 2>?", ["<image 1>", "<image 3>"], ["a.png", "b.png", "c.png"])
    ('Which is like image 1?', ['image 2', 'image 3'], [1, 0, 2])
    """
    present = [index for index, image in enumerate(images) if image is not None]
    found = [number for text in (question, *choices) for number in _PLACEHOLDER.findall(text)]
    if not found:
        return question, list(choices), present
    meant = _meant(found, present)
    order = list(dict.fromkeys(meant))
    if not any(found):
        order += [index for index in present if index not in order]
    if found == [""] and len(present) == 1:
        return _ALONE.sub("", question).strip(), [_ALONE.sub("", choice).strip() for choice in choices], order
    places = iter(order.index(index) + 1 for index in meant)
    asked, *options = [_PLACEHOLDER.sub(lambda _: f"<image {next(places)}>", text) for text in (question, *choices)]
    return _name(_TRAILING.sub("", _LEADING.sub("", asked, count=1))), [_name(option) for option in options], order


def _meant(found: Sequence[str], present: Sequence[int]) -> list[int]:
    """The index of the image that each placeholder stands for, given their numbers."""
    meant: list[int] = []
    unnumbered = iter(present)
    for number in found:
        index = int(number) - 1 if number else next(unnumbered, -1)
        if index not in present:
            there = ", ".join(str(each + 1) for each in present) or "none"
            what = f"<image {number}>" if number else f"<image> {found.count('')} times"
            raise ValueError(f"refers to {what}; the row's images are {there}")
        meant.append(index)
    return meant


def _name(text: str) -> str:
    """A text with names for its placeholders, apart from the words around them."""
    text = re.sub(r"(?<=[\w.,:;?!])(?=<image \d+>)|(?<=>)(?=\w)", " ", text) if "<image" in text else text
    return re.sub(r"<(image \d+)>", r"\1", text).strip()
