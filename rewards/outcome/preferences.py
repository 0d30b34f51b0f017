"""Preference pairs: two answers to one prompt, and which is the better one.

On disk one pair a line, with image paths relative to a folder that the record does not name:

    {"image": "images/7.png", "prompt": "How many cats?", "chosen": "Two.\\nAnswer: 2", "rejected": "Answer: 3"}

``image`` is a list of paths where there are several images, and null or missing where there is none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from PIL.Image import Image

from rewards.files.json_records import PLACEHOLDER, UnusableRecordError, json_object
from rewards.models.encoding import Encoder
from rewards.records import Prompt, Rollout


@dataclass(frozen=True)
class Preference:
    """A pair of answers.

    Attributes:
        prompt: What both answer.
        chosen, rejected: Tokens of the better and the worse answer, with the end-of-sequence token of those that ended.
    """

    prompt: Prompt
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


@dataclass(frozen=True)
class PreferenceRecord:
    """A pair as it is written in a file; ``images`` are paths."""

    images: tuple[str, ...]
    prompt: str
    chosen: str
    rejected: str


def parse_preference(line: bytes) -> PreferenceRecord:
    """What a line says.

    Raises:
        UnusableRecordError: It is no such record, or has no prompt, an empty answer, or the same answer twice.
    """
    content = json_object(line)
    images = content.get("image")
    images = images if isinstance(images, list) else [] if images is None else [images]
    if not all(isinstance(image, str) and image for image in images):
        raise UnusableRecordError("image is not a path, a list of paths, or null")
    prompt, chosen, rejected = (_text(content, key) for key in ("prompt", "chosen", "rejected"))
    if chosen == rejected:
        raise UnusableRecordError("chosen and rejected are the same")
    return PreferenceRecord(tuple(images), prompt, chosen, rejected)


def as_preference(record: PreferenceRecord, name: str, images: Sequence[Image], encoder: Encoder) -> Preference:
    """The record as something that an outcome model learns from; both answers end with the end-of-sequence token.

    Args:
        record: What `parse_preference` gave.
        name: Names it in messages, and is its prompt's id.
        images: Its images, loaded.
        encoder: Of the model that learns.

    Raises:
        UnusableRecordError: A text stands for an image of this checkpoint, or both answers have the same tokens.
    """
    question = record.prompt.replace(PLACEHOLDER, "").strip()
    chosen, rejected = ((*encoder.tokens(text), encoder.end_token) for text in (record.chosen, record.rejected))
    if not encoder.placeholders.isdisjoint((*encoder.tokens(question), *chosen, *rejected)):
        raise UnusableRecordError("its text holds this checkpoint's image placeholder")
    if chosen == rejected:
        raise UnusableRecordError("chosen and rejected are the same in this checkpoint's vocabulary")
    return Preference(Prompt(name, "", question, tuple(images), ""), chosen, rejected)


def harvest(
    prompts: Sequence[Prompt], rollouts: Sequence[Rollout], per_group: int, generator: np.random.Generator
) -> list[Preference]:
    """Pairs of a right and a wrong answer of the same group: at most ``per_group`` of each group, drawn at random.

    Args:
        prompts: The prompt of each rollout.
        rollouts: Verified rollouts.
        per_group: Most pairs of one group.
        generator: Draws where there are more.
    """
    groups: dict[int, tuple[list[int], list[int]]] = {}
    for place, rollout in enumerate(rollouts):
        wrong, right = groups.setdefault(rollout.group, ([], []))
        (right if rollout.outcome > 0.5 else wrong).append(place)
    pairs: list[Preference] = []
    for wrong, right in groups.values():
        siblings = list(product(right, wrong))
        size = min(per_group, len(siblings))
        for draw in sorted(generator.choice(len(siblings), size, replace=False).tolist()) if siblings else ():
            better, worse = siblings[draw]
            pairs.append(Preference(prompts[better], rollouts[better].token_ids, rollouts[worse].token_ids))
    return pairs


def pair_accuracy(margins: np.ndarray) -> float:
    """The share of pairs in the right order, given r(chosen) - r(rejected) of each (N,); a tie counts half.

    >>> pair_accuracy(np.array([2.0, -1.0, 0.0, 0.5]))
    0.625
    """
    return float(np.mean((margins > 0) + 0.5 * (margins == 0)))


class RecentPreferences:
    """The last ``capacity`` pairs of a stream."""

    def __init__(self, capacity: int) -> None:
        self._pairs: deque[Preference] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, pairs: Iterable[Preference]) -> None:
        """Newer pairs push out the oldest."""
        self._pairs.extend(pairs)

    def draw(self, size: int, generator: np.random.Generator) -> list[Preference]:
        """At most ``size`` different pairs, at random."""
        places = generator.choice(len(self._pairs), min(size, len(self._pairs)), replace=False)
        return [self._pairs[place] for place in places.tolist()]

    def pairs(self) -> list[Preference]:
        """All of them, oldest first."""
        return list(self._pairs)


def _text(content: dict[str, Any], key: str) -> str:
    text = content.get(key)
    if not isinstance(text, str) or not text.strip():
        raise UnusableRecordError(f"no {key}")
    return text
