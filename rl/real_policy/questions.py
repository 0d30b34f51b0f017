"""The real quickstart's questions: easy-VQA, and sums of two handwritten digits.

easy-VQA (V. Zhou, MIT licence) asks what colour and shape a picture of one object has, and whether something is there;
its own test pictures are held out. The digits come with scikit-learn (UCI, optical recognition); the last are held out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.random import Generator
from PIL.Image import Image, Resampling, fromarray
from PIL.Image import open as open_image

from rewards.files.json_text import read_json
from rewards.files.whole_file import content_of
from rl.real_policy.language_model import package_folder

COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
SHAPES = ("circle", "rectangle", "triangle")
DIGITS = tuple("0123456789")
SIDE = 64
"""Pixels of a picture's side."""
_HELDOUT_DIGITS = 397  # of 1,797

Part = Literal["warm_start", "train", "heldout"]
Seen = tuple[str, ...]
"""What a picture shows: its colour and its shape, or its digit."""


@dataclass(frozen=True)
class Question:
    """One question to one or two pictures, and what they show."""

    text: str
    answer: str
    pictures: tuple[str, ...]
    seen: tuple[Seen, ...]
    source: str


@dataclass(frozen=True)
class Pool:
    """Pictures by name, and what each shows."""

    pictures: dict[str, Image]
    seen: dict[str, Seen]


def read_pool(part: Part) -> Pool:
    """The pictures of one part; no picture is in two.

    Raises:
        ConfigError: The package `easy-vqa` is not installed.
        OSError: One of its files cannot be read.
    """
    from sklearn.datasets import load_digits

    folder = _easy_vqa(part)
    facts: dict[int, set[str]] = {}
    for text, answer, number in read_json(content_of(folder / "questions.json")):
        facts.setdefault(number, set()).update(_said(text, answer))
    seen: dict[str, Seen] = {}
    pictures = {}
    for number, words in sorted(facts.items()):
        # Of some pictures, the questions do not say what they show.
        if len(words) == 2 and _belongs(part, number):
            name = f"{part}-{number}.png"
            seen[name] = tuple(sorted(words, key=lambda word: word in SHAPES))
            pictures[name] = open_image(folder / "images" / f"{number}.png").convert("RGB")
    digits = load_digits()
    first = len(digits.target) - _HELDOUT_DIGITS
    for number in range(len(digits.target)):
        if (number >= first) == (part == "heldout") and (part == "heldout" or _belongs(part, number)):
            name = f"{part}-digit-{number}.png"
            seen[name] = (str(digits.target[number]),)
            grey = fromarray((digits.images[number] * 15.9).astype(np.uint8))
            pictures[name] = grey.resize((SIDE, SIDE), Resampling.BICUBIC).convert("RGB")
    return Pool(pictures, seen)


def questions(part: Part, pool: Pool, sums: float, rng: Generator) -> Iterator[Question]:
    """Questions without end, in random order.

    Args:
        part: Which questions of easy-VQA.
        pool: Its pictures.
        sums: Share of questions that ask for the sum of two digits.
        rng: Chooses.
    """
    rows = read_json(content_of(_easy_vqa(part) / "questions.json"))
    asked = [row for row in rows if f"{part}-{row[2]}.png" in pool.pictures and _is_kept(row)]
    digits = [name for name, seen in pool.seen.items() if len(seen) == 1]
    while True:
        if rng.random() < sums:
            left, right = (digits[rng.integers(len(digits))] for _ in range(2))
            first, second = pool.seen[left], pool.seen[right]
            total = str(int(first[0]) + int(second[0]))
            yield Question("What is the sum of the two digits?", total, (left, right), (first, second), "sum")
        else:
            text, answer, number = asked[rng.integers(len(asked))]
            name = f"{part}-{number}.png"
            yield Question(text[0].upper() + text[1:], answer, (name,), (pool.seen[name],), _source(text, answer))


def _easy_vqa(part: Part) -> Path:
    return package_folder("easy_vqa") / "data" / ("test" if part == "heldout" else "train")


def _belongs(part: Part, number: int) -> bool:
    """One in four of the training pictures is kept from the warm start, for reinforcement learning."""
    return part == "heldout" or (number % 4 == 0) == (part == "train")


def named(text: str) -> list[str]:
    """The colours and shapes of which a text speaks."""
    return [word for word in re.findall(r"[a-z]+", text.lower()) if word in SHAPES + COLOURS]


def _source(text: str, answer: str) -> str:
    if answer not in ("yes", "no"):
        return "open"
    return "negated" if re.search(r"\b(?:not|no)\b", text) else "whether"


def _is_kept(row: list[str]) -> bool:
    """All open questions and those on one property, but of the many with yes or no only every third."""
    text, answer, number = row
    return answer not in ("yes", "no") or (len(named(text)) == 1 and (len(text) + int(number)) % 3 == 0)


def _said(text: str, answer: str) -> list[str]:
    """The colour and the shape that a question and its answer say the picture has."""
    if answer not in ("yes", "no"):
        return [word for word in (*named(text), answer) if word in SHAPES + COLOURS]
    return named(text) if (answer == "yes") != (_source(text, answer) == "negated") else []
