"""What a verifier says of an answer: whether it is right, and what it is worth."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from rewards.records import Prompt
from rewards.verification.verifiers import Verifier

NUMBER = "a number from 0 to 1"
VERDICTS = ("correct", "acc")
"""Names by which a function says whether the answer is right; the second one is verl's."""


@dataclass(frozen=True)
class Answer:
    """What is judged.

    Attributes:
        text: The whole completion.
        prompt: What it answers.
        token_ids: Its tokens, with the one that ends it if that was sampled.
    """

    text: str
    prompt: Prompt
    token_ids: tuple[int, ...] = ()

    @property
    def row(self) -> dict[str, Any]:
        """The prompt's row: all columns of its table, but for images that are no field of the prompt, and ``id``,
        ``source``, ``question``, ``answer`` and ``images`` as the prompt has them; a copy, to do anything with."""
        names = ("id", "source", "question", "answer")
        row = {**deepcopy(dict(self.prompt.columns)), **{name: getattr(self.prompt, name) for name in names}}
        return row | {"images": tuple(image.copy() for image in self.prompt.images)}


@dataclass(frozen=True)
class Verdict:
    """What is said of one answer.

    Attributes:
        correct: Whether it is right, which labels, dynamic sampling and accuracy rest on.
        score: What it is worth as a reward; None for 1 if it is right, else 0.
        parts: What the score is made of, by name: each is a metric.
    """

    correct: bool
    score: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)


def verdict_of(verifier: Verifier, answer: Answer) -> Verdict:
    """What a verifier says of an answer; a plain function of text and reference says right or wrong.

    >>> from rewards.verification.verifiers import exact
    >>> verdict_of(exact, Answer("Answer: 4", Prompt("p", "sums", "2 + 2 = ?", (), "4")))
    Verdict(correct=True, score=None, parts={})
    """
    judge = getattr(verifier, "verdict", None)
    if judge is not None:
        return judge(answer)
    said = verifier(answer.text, answer.prompt.answer)
    return Verdict(said) if isinstance(said, bool) else read_verdict(said)


def read_verdict(said: object, weights: Mapping[str, float] | None = None, bounded: bool = True) -> Verdict:
    """What a function of the user's gave, as a verdict.

    A number is the score, and 1 or more is right. Numbers by name are parts of it: the score is their mean, weighted
    with ``weights`` (1 for what is not named there). Among them, ``score`` is the score itself, and ``correct`` says
    whether the answer is right, whatever it is worth.

    >>> read_verdict(True), read_verdict(0.75)
    (Verdict(correct=True, score=1.0, parts={}), Verdict(correct=False, score=0.75, parts={}))
    >>> read_verdict({"accuracy": 1, "format": 0.5}, {"format": 0.5}).score.__round__(3)
    0.833
    >>> read_verdict({"iou": 0.75, "correct": True})
    Verdict(correct=True, score=0.75, parts={'iou': 0.75})

    Args:
        said: That.
        weights: Of parts.
        bounded: Whether numbers must be in [0, 1], and all that is named a number.

    Raises:
        ValueError: It is none; says what is allowed.
    """
    if isinstance(said, Verdict):
        if not isinstance(said.correct, bool) or not (said.score is None or _may_be(said.score, bounded)):
            raise ValueError(f"allowed is a Verdict of true or false, with {NUMBER} or none")
        if not isinstance(said.parts, Mapping) or not all(_may_be(part, bounded=False) for part in said.parts.values()):
            raise ValueError("allowed as parts of a Verdict are finite numbers by name")
        score = None if said.score is None else float(_plain(said.score))
        return Verdict(said.correct, score, {str(name): float(_plain(part)) for name, part in said.parts.items()})
    if not isinstance(said, Mapping):
        if weights or not _may_be(said, bounded):
            raise ValueError(f"allowed is {_allowed(bounded, bool(weights))}")
        score = float(_plain(said))
        return Verdict(score >= 1, score)
    parts = _parts(said, bounded)
    if unknown := set(weights or ()) - set(parts):
        raise ValueError(f"task.weights names {min(unknown)!r}; allowed are its parts, {', '.join(parts) or 'none'}")
    score = parts.pop("score") if "score" in parts else _weighted_mean(parts, weights or {})
    correct = _plain(said.get("correct", said.get("acc", score >= 1)))
    if not isinstance(correct, int | float) or correct not in (0, 1):
        raise ValueError(f"correct is {correct!r}; allowed is true or false")
    return Verdict(bool(correct), score, parts)


def _parts(said: Mapping[Any, Any], bounded: bool) -> dict[str, float]:
    """The numbers by name, ``score`` among them."""
    parts = {}
    for name, value in said.items():
        if name in VERDICTS or (not bounded and name != "score" and not _may_be(value, bounded)):
            continue
        if not _may_be(value, bounded):
            raise ValueError(f"{name} is {reprlib.repr(value)}; allowed is {NUMBER if bounded else 'a finite number'}")
        parts[str(name)] = float(_plain(value))
    return parts


def _weighted_mean(parts: Mapping[str, float], weights: Mapping[str, float]) -> float:
    each = [weights.get(name, 1.0) for name in parts]
    if not sum(each):
        raise ValueError("there is no part that has a weight; allowed is one or more")
    # Parts at 1 make exactly 1, since a product of 1 and a weight is the weight.
    return sum(value * weight for value, weight in zip(parts.values(), each, strict=True)) / sum(each)


def _allowed(bounded: bool, by_name: bool) -> str:
    if by_name:
        return "numbers by name, since task.weights is set"
    return f"true or false, {NUMBER}, or such numbers by name" if bounded else "a finite number, or such by name"


def _may_be(value: object, bounded: bool) -> bool:
    """Whether it is a number that is allowed."""
    plain = _plain(value)
    if not isinstance(plain, Real):
        return False
    least, most = (0.0, 1.0) if bounded else (-sys.float_info.max, sys.float_info.max)
    return bool(least <= plain <= most)  # type: ignore[operator]  # a real number compares, which its class does not say


def _plain(value: Any) -> Any:
    """A single number of NumPy or PyTorch as Python's own."""
    dimensions = getattr(value, "ndim", None)
    return value.item() if dimensions == 0 or (dimensions == 1 and len(value) == 1) else value
