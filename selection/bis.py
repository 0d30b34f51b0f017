"""Balanced-Information Score (BIS), as published: arXiv 2602.04145.

For a rollout with Monte-Carlo step scores s_j = correct_j / sampled_j:

    y_j = 1 if s_j > 0 else 0           hard label
    p   = mean(y)                       the label mixture enters as p (1 - p)
    R   = mean of s_j over y_j = 1;     label reliability; 1 if no step is positive
    BIS = (p (1 - p) + alpha) R
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.records import StepCounts


@dataclass(frozen=True)
class StepStatistics:
    """What selection looks at, one value a rollout (B,).

    Attributes:
        mixture: p (1 - p), in [0, 0.25].
        reliability: R, in (0, 1].
        all_negative: No labelled step is positive.
        labelled: Number of steps with at least one continuation.
    """

    mixture: np.ndarray
    reliability: np.ndarray
    all_negative: np.ndarray
    labelled: np.ndarray


def step_statistics(counts: Sequence[StepCounts]) -> StepStatistics:
    """Mixture and reliability of a batch of rollouts; steps with ``sampled`` 0 are missing and take no part.

    Raises:
        ValueError: Counts that cannot be, naming the rollout by its place in the batch.
    """
    for index, entry in enumerate(counts):
        _check(entry, index)
    lengths = np.array([len(entry.sampled) for entry in counts], dtype=np.int64)
    rollout = np.repeat(np.arange(len(counts)), lengths)
    correct = np.concatenate([entry.correct for entry in counts]) if len(counts) else np.zeros(0)
    sampled = np.concatenate([entry.sampled for entry in counts]) if len(counts) else np.zeros(0)
    scores = correct / np.maximum(sampled, 1)

    labelled = np.bincount(rollout, weights=sampled > 0, minlength=len(counts))
    positive = np.bincount(rollout, weights=correct > 0, minlength=len(counts))
    total = np.bincount(rollout, weights=scores, minlength=len(counts))
    share = positive / np.maximum(labelled, 1)
    return StepStatistics(
        mixture=share * (1 - share),
        reliability=np.where(positive > 0, total / np.maximum(positive, 1), 1.0),
        all_negative=(positive == 0) & (labelled > 0),
        labelled=labelled.astype(np.int64),
    )


def balanced_information(statistics: StepStatistics, alpha: float) -> np.ndarray:
    """BIS of each rollout (B,), in [0, 0.25 + alpha]; NaN for a rollout with no labelled step."""
    score = (statistics.mixture + alpha) * statistics.reliability
    return np.where(statistics.labelled > 0, score, np.nan)


def _check(counts: StepCounts, index: int) -> None:
    correct, sampled = np.asarray(counts.correct), np.asarray(counts.sampled)
    if correct.shape != sampled.shape or correct.ndim != 1:
        raise ValueError(f"rollout {index}: {correct.shape} correct counts beside {sampled.shape} sampled counts")
    if not (np.isfinite(correct).all() and np.isfinite(sampled).all()):
        raise ValueError(f"rollout {index}: a count is not a number")
    if (correct < 0).any() or (correct > sampled).any():
        raise ValueError(f"rollout {index}: counts {correct.tolist()} of {sampled.tolist()}; allowed is 0 to sampled")
