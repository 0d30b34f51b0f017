"""Label rules: what the MPRM is to say of a step, given its Monte-Carlo counts.

A rule is a function of `StepCounts` that gives one target a step in [0, 1], NaN where there is nothing to learn from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rewards.records import StepCounts

LabelRule = Callable[[StepCounts], np.ndarray]


def hard(counts: StepCounts) -> np.ndarray:
    """1 if any continuation was right, else 0 (VisualPRM; published BIS).

    >>> hard(StepCounts(np.array([3, 0, 0]), np.array([8, 8, 0]), 0))
    array([ 1.,  0., nan])
    """
    return np.where(counts.sampled > 0, (counts.correct > 0).astype(float), np.nan)


def soft(counts: StepCounts) -> np.ndarray:
    """The Monte-Carlo score itself, correct / sampled.

    >>> soft(StepCounts(np.array([2, 0, 0]), np.array([8, 8, 0]), 0))
    array([0.25, 0.  ,  nan])
    """
    return np.where(counts.sampled > 0, counts.correct / np.maximum(counts.sampled, 1), np.nan)


LABEL_RULES: dict[str, LabelRule] = {"hard": hard, "soft": soft}
