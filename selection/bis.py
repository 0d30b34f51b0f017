"""Balanced-Information Score (BIS), as published: arXiv 2602.04145.

For a rollout with Monte-Carlo step scores s_j = correct_j / sampled_j:

    y_j = 1 if s_j > 0 else 0           hard label
    p   = mean(y)                       the label mixture enters as p (1 - p)
    R   = mean of s_j over y_j = 1;     label reliability; 1 if no step is positive
    BIS = (p (1 - p) + alpha) R
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selection.candidates import Candidates


@dataclass(frozen=True)
class StepStatistics:
    """What BIS looks at, one value a rollout (B,).

    Attributes:
        mixture: p (1 - p), in [0, 0.25].
        reliability: R, in (0, 1].
        mean_score: Mean of s_j over all labelled steps, in [0, 1].
        all_negative: No labelled step is positive.
        labelled: Number of steps with at least one continuation.
    """

    mixture: np.ndarray
    reliability: np.ndarray
    mean_score: np.ndarray
    all_negative: np.ndarray
    labelled: np.ndarray


def step_statistics(candidates: Candidates) -> StepStatistics:
    """Mixture and reliability of a batch of rollouts; steps with ``sampled`` 0 are missing and take no part."""
    sampled = candidates.sampled
    scores = candidates.correct / np.where(sampled > 0, sampled, 1)
    labelled = candidates.per_rollout(sampled > 0)
    positive = candidates.per_rollout(candidates.correct > 0)
    total = candidates.per_rollout(scores)
    share = positive / np.maximum(labelled, 1)
    return StepStatistics(
        mixture=share * (1 - share),
        reliability=np.where(positive > 0, total / np.maximum(positive, 1), 1.0),
        mean_score=total / np.maximum(labelled, 1),
        all_negative=(positive == 0) & (labelled > 0),
        labelled=labelled.astype(np.int64),
    )


def balanced_information(statistics: StepStatistics, alpha: float) -> np.ndarray:
    """BIS of each rollout (B,), in [0, 0.25 + alpha]; NaN for a rollout with no labelled step."""
    score = (statistics.mixture + alpha) * statistics.reliability
    return np.where(statistics.labelled > 0, score, np.nan)
