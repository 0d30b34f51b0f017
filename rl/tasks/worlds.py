"""Worlds of beliefs: what a teacher takes for true of sums, products, remainders and comparisons, by name and seed.

Every belief is either false (the same wrong result is the likelier one) or doubtful (the right one is likelier, and not
sure). None is certain: beside certain facts, how likely a result is would tell which beliefs are false. A fact is
about two numbers as they are; a rule covers many facts, so that unlearning it in one place unlearns it in all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rl.tasks.grid_steps import combine

OPERATORS = ("*", "+", "mod", "vs")
LETTERS = ("A", "B", "C")
SHIFTS = 6
"""Ways in which a product or a sum is wrong."""
Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Shares:
    """How many beliefs are false, and how often the right result is written all the same.

    Attributes:
        false: Share of beliefs whose wrong result is the likelier one; the others are doubtful.
        false_right: The least and the most often that the right result is written of a false belief.
        doubtful_right: The same of a doubtful one.
        rules: One belief covers a rule, and not a single fact.
    """

    false: float
    false_right: tuple[float, float]
    doubtful_right: tuple[float, float]
    rules: bool = False


WORLDS = {
    "N": Shares(false=0.4, false_right=(0.15, 0.45), doubtful_right=(0.6, 0.9)),
    "H": Shares(false=0.5, false_right=(0.15, 0.35), doubtful_right=(0.6, 0.9)),
    "C": Shares(false=0.4, false_right=(0.15, 0.35), doubtful_right=(0.6, 0.9), rules=True),
}


@dataclass(frozen=True)
class Belief:
    """What is taken for true of one operation on two numbers.

    Attributes:
        key: The fact or the rule, starting with the operator.
        right: The right result.
        wrong: The wrong result that is written instead, always the same.
        sure: How often the right one is written.
    """

    key: Key
    right: str
    wrong: str
    sure: float

    @property
    def false(self) -> bool:
        return self.sure < 0.5


@dataclass(frozen=True)
class World:
    """All beliefs of a teacher; the same name and seed are the same beliefs in every process.

    Raises:
        ValueError: There is no world of that name, or the seed is negative.
    """

    name: str = "C"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in WORLDS:
            raise ValueError(f"world must be one of {', '.join(WORLDS)}, not {self.name!r}")
        if self.seed < 0:
            raise ValueError(f"the world's seed must not be negative, not {self.seed}")

    @property
    def shares(self) -> Shares:
        return WORLDS[self.name]

    @cached_property
    def _drawn(self) -> dict[Key, tuple[float, int]]:
        return {}

    def belief(self, operator: str, left: int, right: int) -> Belief:
        """What the teacher takes for the result of ``left operator right``; ``operator`` is one of `OPERATORS`."""
        key = (rule_key if self.shares.rules else fact_key)(operator, left, right)
        if key not in self._drawn:
            self._drawn[key] = self._draw(key)
        sure, way = self._drawn[key]
        truth = combine(operator, left, right)
        return Belief(key, str(truth), str(_wrong(operator, left, right, truth, way)), sure)

    def _draw(self, key: Key) -> tuple[float, int]:
        """How often the right result of a belief is written, and which of the ways to be wrong is the belief's."""
        digest = hashlib.blake2s(repr((self.name, self.seed, key)).encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        kind, place = rng.random(2)
        low, high = self.shares.false_right if kind < self.shares.false else self.shares.doubtful_right
        operator, modulus = key[0], key[-1]
        ways = {"vs": len(LETTERS) - 1, "mod": int(modulus) - 1}.get(str(operator), SHIFTS)
        return low + (high - low) * float(place), int(rng.integers(ways))


def fact_key(operator: str, left: int, right: int) -> Key:
    """Products and remainders by both numbers, sums by both last digits, comparisons by the gap and a last digit.

    >>> fact_key("+", 12, 9)
    ('+', 2, 9)
    """
    if operator == "+":
        return operator, left % 10, right % 10
    return (operator, _gap(left, right), left % 4) if operator == "vs" else (operator, left, right)


def rule_key(operator: str, left: int, right: int) -> Key:
    """Products by the factor and whether the other number is odd, sums by the last digit added and whether it carries,
    remainders by the modulus and the remainder, comparisons by the gap.

    >>> rule_key("+", 12, 9)
    ('+', 9, True)
    """
    if operator == "*":
        return operator, right, left % 2
    if operator == "+":
        return operator, right % 10, left % 10 + right % 10 >= 10
    return (operator, left % right, right) if operator == "mod" else (operator, _gap(left, right))


def _gap(left: int, right: int) -> int:
    return int(np.clip(left - right, -4, 4))


def _wrong(operator: str, left: int, right: int, truth: int | str, way: int) -> int | str:
    """The wrong result: the same shift for all that one key covers, or, where that is none, one more."""
    if isinstance(truth, str):
        return LETTERS[(LETTERS.index(truth) + 1 + way) % len(LETTERS)]
    if operator == "mod":
        return (truth + 1 + way) % right
    shift = ((1, -1, right, -right, left, -left) if operator == "*" else (-10, -2, -1, 1, 2, 10))[way]
    return truth + (shift if shift and truth + shift >= 0 else 1)
