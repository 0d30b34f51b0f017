"""Credit by the answer, less where the MPRM saw its steps go wrong."""

from __future__ import annotations

import numpy as np

from rewards.credit.batch import ScoredBatch


def largest_drop(scores: np.ndarray) -> float:
    """The largest relative fall from one step's score to the next one's, 0 where nothing falls.

    >>> round(largest_drop(np.array([0.8, 0.9, 0.6, 0.5])), 3)
    0.333
    """
    before, after = scores[:-1], scores[1:]
    falls = before > after  # from 0 nothing falls, so that nothing is divided by 0
    return float(np.max((before[falls] - after[falls]) / before[falls], initial=0.0))


def ps_grpo(batch: ScoredBatch, rho: float = 0.3, gamma: float = 0.5) -> list[np.ndarray]:
    """PS-GRPO (URSA, arXiv 2501.04686): a right answer after a step that the MPRM doubts is worth less.

    With the largest relative drop d = max_j (p_j - p_{j+1}) / p_j, the reward

        r = 1          right, and d < rho
            1 - gamma  right, and d >= rho
            0          wrong

    is compared as the outcome is. Of an outcome reward other than 0 or 1 the share ``gamma`` is taken where it is
    positive.

    The first score falls by 1 - 0.5 / 0.9 = 0.44, the second by 0.06: rewards 0.5, 1 and 0, with deviation 0.5:

    >>> from rewards.credit.examples import example
    >>> batch = example(outcomes=[1, 1, 0], scores=[[0.9, 0.5], [0.9, 0.85], [0.9, 0.1]])
    >>> [tokens.round(2).tolist() for tokens in ps_grpo(batch)]
    [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]

    Known failure: one reward a rollout, so it tells good answers from bad ones and never which step did it; a doubt at
    the first step is no drop; and an MPRM that is flat takes nothing from anybody.
    """
    drops = np.array([largest_drop(scores) for scores in batch.scores], dtype=float)
    return batch.on_every_token(batch.outcomes - np.where(drops >= rho, gamma * np.maximum(batch.outcomes, 0), 0.0))
