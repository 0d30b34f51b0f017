"""Label rules: what the MPRM is to say of a step, given its Monte-Carlo counts.

A rule is a function of `StepCounts` that gives one target a step in [0, 1], NaN where there is nothing to learn from.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np

from rewards.records import StepCounts
from rewards.users_code import UsersCodeError, in_one_line

LabelRule = Callable[[StepCounts], np.ndarray]


def hard(counts: StepCounts, threshold: float = 0.0) -> np.ndarray:
    """1 if more than a share ``threshold`` of the continuations was right, else 0 (VisualPRM and published BIS: 0).

    >>> hard(StepCounts(np.array([3, 0, 0]), np.array([8, 8, 0]), 0))
    array([ 1.,  0., nan])
    """
    positive = counts.correct > threshold * counts.sampled
    return np.where(counts.sampled > 0, positive.astype(float), np.nan)


def soft(counts: StepCounts) -> np.ndarray:
    """The Monte-Carlo score itself, correct / sampled, also where evidence with a weight makes ``sampled`` less than 1.

    >>> soft(StepCounts(np.array([2, 0, 0]), np.array([8, 8, 0]), 0))
    array([0.25, 0.  ,  nan])
    """
    sampled = counts.sampled > 0
    return np.where(sampled, counts.correct / np.where(sampled, counts.sampled, 1), np.nan)


def checked_rule(name: str, rule: LabelRule) -> LabelRule:
    """A rule of the user's that gives targets, or stops everything with a `UsersCodeError`.

    Args:
        name: For messages.
        rule: The user's own.

    >>> checked_rule("mine", lambda counts: counts.correct > 1)(StepCounts(np.array([2, 0]), np.array([4, 4]), 0))
    array([1., 0.])
    """

    def targets(counts: StepCounts) -> np.ndarray:
        with in_one_line(name):
            given = np.asarray(rule(deepcopy(counts)), dtype=float)
        if given.shape != counts.sampled.shape:
            raise UsersCodeError(
                f"{name} gave the shape {given.shape} for {len(counts.sampled)} steps; allowed is one a step"
            )
        wrong = ~(np.isnan(given) | ((given >= 0) & (given <= 1)))
        if wrong.any():
            raise UsersCodeError(f"{name} gave a step {given[wrong][0]:g}; allowed is a number from 0 to 1, or NaN")
        return given

    return targets


LABEL_RULES: dict[str, LabelRule] = {"hard": hard, "soft": soft}
