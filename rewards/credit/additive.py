"""Credit by the answer and the mean of its steps."""

from __future__ import annotations

import numpy as np

from rewards.credit.batch import ScoredBatch


def mean_scores(batch: ScoredBatch) -> np.ndarray:
    """The mean step score of each rollout (B,), 0 for one without steps."""
    return np.array([scores.mean() if len(scores) else 0.0 for scores in batch.scores], dtype=float)


def additive(batch: ScoredBatch) -> list[np.ndarray]:
    """The outcome reward plus the mean step score, compared, on every token.

        A_t = z(r_o + mean(p))

    A variant that URSA (arXiv 2501.04686) compares PS-GRPO with. A rollout without steps has mean 0: leaving
    the steps out must not pay.

    Rewards 1 + 0.3 and 0 + (0.8 + 0.6) / 2 = 0.7 have mean 1 and sample deviation 0.424:

    >>> from rewards.credit.examples import example
    >>> [tokens.round(2).tolist() for tokens in additive(example(outcomes=[1, 0], scores=[[0.3], [0.8, 0.6]]))]
    [[0.71, 0.71], [-0.71, -0.71, -0.71]]

    Known failure: below plain GRPO in that paper. The MPRM's word counts as much as the verifier's, later steps score
    lower, and so answers become shorter: fewer steps raise the mean.
    """
    return batch.on_every_token(batch.outcomes + mean_scores(batch))
