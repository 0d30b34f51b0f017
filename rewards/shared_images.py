"""Equal images of one batch go through the vision tower once: the rollouts of a group all look at the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def see_equal_images_once(model: Any) -> None:
    """Have a Transformers vision-language model compute the features of equal images of a batch only once, in place.

    Features, and the gradients that flow back through them, are what they were.

    Args:
        model: With a part ``model`` that has Transformers' ``get_image_features``; any other is left as it is.
    """
    inner: Any = getattr(model, "model", None)
    if not hasattr(inner, "get_image_features"):
        return
    plain = inner.get_image_features

    def once(pixel_values: torch.Tensor, image_grid_thw: torch.Tensor | None = None, **named: Any) -> Any:
        given = {} if image_grid_thw is None else {"image_grid_thw": image_grid_thw}
        sizes = [1] * len(pixel_values) if image_grid_thw is None else image_grid_thw.prod(-1).tolist()
        images = pixel_values.split(sizes)
        shapes = [()] * len(images) if image_grid_thw is None else [tuple(row) for row in image_grid_thw.tolist()]
        firsts = first_equals(images, shapes)
        distinct = sorted(set(firsts))
        if len(distinct) < len(images):
            pixel_values = torch.cat([images[place] for place in distinct])
            given = {name: tensor[distinct] for name, tensor in given.items()}
        found = plain(pixel_values=pixel_values, **given, **named)
        if len(distinct) < len(images):
            places = [distinct.index(first) for first in firsts]
            features = found.pooler_output
            alike = isinstance(features, torch.Tensor)
            found.pooler_output = features[places] if alike else tuple(features[place] for place in places)
        return found

    inner.get_image_features = once


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
