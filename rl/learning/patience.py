"""Optimizer steps whose loss or gradient is not a number: left out, counted, and borne a few times in a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FINITE = ("loss", "grad_norm", "value_loss", "value_grad_norm")


def is_finite(update: Mapping[str, float]) -> bool:
    """Whether losses and gradients of an optimizer step are numbers, and so its weights would be.

    >>> is_finite({"loss": 0.1, "grad_norm": 2.0, "entropy": float("nan")})
    True
    >>> is_finite({"loss": 0.1, "grad_norm": float("inf")})
    False
    """
    return all(math.isfinite(update[name]) for name in FINITE if name in update)


@dataclass
class Patience:
    """How long the learner bears with policy steps from which nothing can be learned.

    >>> patience, broken = Patience(most=1), {"loss": float("nan")}
    >>> patience.taken([broken, {"loss": 0.1}], version=0)
    [{'loss': 0.1}]
    >>> patience.taken([broken], version=1)
    []
    >>> patience.taken([broken], version=2)
    Traceback (most recent call last):
        ...
    FloatingPointError: policy update 3: loss nan, 2 in a row like that

    Attributes:
        most: Policy steps in a row without any optimizer step that could be taken; None where no optimizer step may be
            left out, since the weights have moved by the time that its gradient is known.
        in_vain: How many there have been in a row.
    """

    most: int | None
    in_vain: int = 0

    def taken(self, tried: Sequence[Mapping[str, float]], version: int) -> list[Mapping[str, float]]:
        """The optimizer steps of a policy step that could be taken.

        Args:
            tried: All of them: what they say of themselves.
            version: Of the policy before the policy step.

        Raises:
            FloatingPointError: They are too few for too long.
        """
        taken = [one for one in tried if is_finite(one)]
        self.in_vain = 0 if taken else self.in_vain + 1
        left_out = len(taken) < len(tried)
        if left_out if self.most is None else self.in_vain > self.most:
            last = next(one for one in reversed(tried) if not is_finite(one))
            numbers = ", ".join(f"{name} {last[name]}" for name in FINITE if name in last)
            in_a_row = f", {self.in_vain} in a row like that" if self.in_vain > 1 else ""
            raise FloatingPointError(f"policy update {version + 1}: {numbers}{in_a_row}")
        return taken
