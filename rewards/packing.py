"""Packing by length: which rows go through a model together, so that little of what it computes is padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Length(NamedTuple):
    """Tokens of a row: of its head, which is padded on the left, and of its body, padded on the right."""

    head: int
    body: int


def pack(lengths: Sequence[Length], most_tokens: int, at_least: int = 1) -> list[list[int]]:
    """Split rows into micro-batches of similar length.

    Args:
        lengths: Of each row.
        most_tokens: Most tokens of a micro-batch, padding included; a longer row goes alone.
        at_least: Micro-batches to make, if there are as many rows.

    Returns:
        The places of each micro-batch's rows, longest rows first.

    >>> pack([Length(0, 3), Length(5, 4), Length(1, 3), Length(6, 4)], 20)
    [[3, 1], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda place: (-sum(lengths[place]), place))
    most_rows = max(1, len(order) // at_least)
    packed: list[list[int]] = []
    head = body = 0
    for place in order:
        wider = max(head, lengths[place].head), max(body, lengths[place].body)
        if packed and len(packed[-1]) < most_rows and (len(packed[-1]) + 1) * sum(wider) <= most_tokens:
            packed[-1].append(place)
            head, body = wider
        else:
            packed.append([place])
            head, body = lengths[place]
    return packed
