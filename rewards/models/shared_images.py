"""Equal pictures of a batch go through the vision tower once: the rollouts of a group look at the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from inspect import signature
from typing import Any

import torch

EXTENTS = ("pixel_attention_mask", "pixel_mask")
"""Masks of what is picture and what is padding around it: of equal pixels, their extents tell them apart."""
HALVES = (torch.bfloat16, torch.float16)
"""Number formats that a processor (Llama 4's) may give pixels in, whatever the model computes in."""
UNREAD = ("hidden_states", "attentions")
"""What a tower says of its layers, and no model reads: as large as all the rest, and left out unless asked for."""


def see_equal_images_once(model: Any) -> None:
    """Have a Transformers vision-language model compute the features of equal images of a batch only once, in place.

    Features, and the gradients that flow back through them, are what they were. Where it is not known which part of the
    pixels or of the features is whose, the model computes as it would without this.

    Args:
        model: With a body that has Transformers' ``get_image_features``; any other is left as it is.
    """
    body: Any = model.base_model
    plain = getattr(body, "get_image_features", None)
    if plain is None:
        return
    names = [*signature(plain).parameters]
    packed, padded = "image_grid_thw" in names, "pixel_attention_mask" in names

    def once(*unnamed: Any, **named: Any) -> Any:
        named |= dict(zip(names, unnamed, strict=False))
        pixels = named.get("pixel_values")
        if isinstance(pixels, torch.Tensor) and pixels.dtype in HALVES:
            named["pixel_values"] = pixels.to(body.dtype)
        beside = {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
        pictures = _pictures(beside.pop("pixel_values", None), beside, packed, padded)
        places = pictures.firsts if pictures else []
        distinct = sorted(set(places))
        if pictures and len(distinct) < len(places):
            found = plain(**(named | pictures.only(distinct)))
            where = [distinct.index(first) for first in places]
            tiles, keep = pictures.tiles(distinct), named.get("output_hidden_states")
            if (whole := _for_all(found, where, tiles, pictures.one_row, keep)) is not None:
                return whole
        return plain(**named)

    body.get_image_features = once


@dataclass(frozen=True)
class _Pictures:
    """The pictures of a batch, N of them.

    Attributes:
        pixels: Of each.
        beside: What else belongs to each: N rows of every tensor.
        packed: Whether the pixels of one picture follow on those of the one before.
        padded: Whether pixels have a dimension more, of prompts.
        one_row: Whether the tower reads all pictures as one sequence.
    """

    pixels: Sequence[torch.Tensor]
    beside: dict[str, torch.Tensor]
    packed: bool
    padded: bool
    one_row: bool

    @property
    def firsts(self) -> list[int]:
        """See `first_equals`."""
        return first_equals(self.pixels, [self._kind(place) for place in range(len(self.pixels))])

    def tiles(self, places: Sequence[int]) -> list[int]:
        """How many tiles these have that are not padding; of one that is no stack of tiles, 1."""
        if self.packed or self.padded or self.pixels[0].ndim != 4:
            return [1] * len(places)
        return [int((self.pixels[place] != 0).flatten(1).any(1).sum()) for place in places]

    def only(self, places: Sequence[int]) -> dict[str, torch.Tensor]:
        """Arguments for these pictures."""
        chosen = [self.pixels[place] for place in places]
        arguments = {"pixel_values": torch.cat(chosen) if self.packed else torch.stack(chosen)}
        arguments |= {name: rows[list(places)] for name, rows in self.beside.items()}
        return {name: value[None] for name, value in arguments.items()} if self.padded else arguments

    def _kind(self, place: int) -> tuple[int, ...]:
        """What else two pictures must have in common."""
        kind = list[int]()
        for name, rows in self.beside.items():
            row = rows[place]
            kind += [int(row.any(side).sum()) for side in (0, 1)] if name in EXTENTS else row.flatten().tolist()
        return tuple(kind)


def _pictures(
    pixel_values: torch.Tensor | None, beside: dict[str, torch.Tensor], packed: bool, padded: bool
) -> _Pictures | None:
    """The pictures of a batch; None where it is not known which pixels belong to which."""
    if pixel_values is None:
        return None
    if packed:
        grid = beside.get("image_grid_thw")
        if grid is None or grid.prod(-1).sum() != len(pixel_values):
            return None
        return _matched(_Pictures(pixel_values.split(grid.prod(-1).tolist()), beside, True, False, False))
    if padded:
        if pixel_values.ndim != 5 or any(rows.shape[:2] != pixel_values.shape[:2] for rows in beside.values()):
            return None
        real = (pixel_values != 0).flatten(2).any(2)  # the rest fills up prompts with fewer pictures than others
        of_pictures = {name: rows[real] for name, rows in beside.items()}
        return _matched(_Pictures(pixel_values[real].unbind(), of_pictures, False, True, False))
    one_row = pixel_values.ndim == 4 and "image_sizes" in beside
    return _matched(_Pictures(pixel_values.unbind(), beside, False, False, one_row))


def _matched(pictures: _Pictures) -> _Pictures | None:
    count = len(pictures.pixels)
    return pictures if count and all(rows.shape[:1] == (count,) for rows in pictures.beside.values()) else None


def _for_all(found: Any, where: Sequence[int], tiles: Sequence[int], one_row: bool, keep: bool | None) -> Any | None:
    """Of the features of distinct pictures those of all; None where it is not known which are whose.

    Args:
        found: What the model says of the distinct ones.
        where: For each picture its place among them.
        tiles: Of each of them.
        one_row: See `_Pictures`.
        keep: Whether `UNREAD` are wanted.
    """
    features, count = getattr(found, "pooler_output", None), len(tiles)
    if features is None or len(features) != count:
        return None
    tokens = [len(part) for part in features] if isinstance(features, list | tuple) else []
    expanded = {}
    for name, value in vars(found).items():
        if name in UNREAD and not keep:
            value = None
        elif name == "pooler_output" and tokens:
            value = type(value)(value[place] for place in where)
        elif value is not None:
            several = isinstance(value, list | tuple)
            parts = [_rows(part, where, tiles, tokens, one_row) for part in (value if several else [value])]
            if any(part is None for part in parts):
                return None
            value = type(value)(parts) if several else parts[0]
        expanded[name] = value
    whole = type(found)(**{field.name: expanded.pop(field.name) for field in fields(found)})
    for name, value in expanded.items():  # Mistral 3's class knows nothing of its features
        setattr(whole, name, value)
    return whole


def _rows(
    value: Any, where: Sequence[int], tiles: Sequence[int], tokens: Sequence[int], one_row: bool
) -> torch.Tensor | None:
    """A tensor's part of each picture, as long as its tiles are many, or its tokens; None of any other tensor."""
    dimension = int(one_row and value.ndim > 1 and len(value) == 1)
    length = value.shape[dimension]
    if length == len(tiles) and not dimension:
        sizes = [1] * len(tiles)
    elif length == sum(tiles) and not dimension:
        sizes = list(tiles)
    elif tokens and length % sum(tokens) == 0:  # perhaps before several of them become one
        sizes = [count * (length // sum(tokens)) for count in tokens]
    else:
        return None
    parts = value.split(sizes, dimension)
    return torch.cat([parts[place] for place in where], dimension)


def first_equals(images: Sequence[torch.Tensor], shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """For each image the place of the first one that equals it, its own if there is none before it.

    Args:
        images: Pixels or patches, of any shapes.
        shapes: What else two images must have in common: a picture of 2 x 8 patches is not one of 4 x 4.

    >>> red, blue = torch.zeros(2, 3), torch.ones(2, 3)
    >>> first_equals([red, blue, red.clone(), blue[:1]], [()] * 4)
    [0, 1, 0, 3]
    """
    # Sums tell most images apart without comparing every pair.
    sums = torch.stack([torch.stack([image.sum(), image.square().sum()]) for image in images]).tolist()
    seen: dict[tuple[Any, ...], list[int]] = {}
    firsts = []
    for place, image in enumerate(images):
        alike = seen.setdefault((*sums[place], *shapes[place], *image.shape), [])
        first = next((other for other in alike if torch.equal(images[other], image)), place)
        if first == place:
            alike.append(place)
        firsts.append(first)
    return firsts
