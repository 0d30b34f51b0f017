"""Credit by the worst step that is still to come."""

from __future__ import annotations

import numpy as np

from rewards.credit.batch import ScoredBatch
from rewards.credit.comparison import leave_one_out
from rewards.credit.placement import at_last_token, at_step_ends, rewards_to_go


def soft_minimum(rewards: np.ndarray, temperature: float) -> np.ndarray:
    """Each reward (K,) times its weight in softmax(-rewards / temperature): nearly all of it is the least one's.

    >>> soft_minimum(np.array([0.8, -0.8]), 0.1).round(3).tolist()
    [0.0, -0.8]
    """
    weights = np.exp((rewards.min(initial=np.inf) - rewards) / temperature)
    return rewards * weights / weights.sum()


def min_form(batch: ScoredBatch, temperature: float = 0.1) -> list[np.ndarray]:
    """PURE (arXiv 2504.15275, and its code): the return of a step is the worst that it and later steps earn.

        r_j  = 2 p_j - 1                                 p_j of "right" minus 1 - p_j of "wrong", in [-1, 1]
        r*_j = r_j softmax(-r / T)_j                     their sum is nearly the least r_j
        b    = sum of r* / number of tokens              over the others of the group: their reward a token
        A_t  = sum over steps j that end at t or later of (r*_j - b n_j)  +  r_o - mean of the others' r_o

    with n_j tokens in step j. Both baselines leave the rollout itself out; the algorithm's comparison does not matter.
    Where separators get no advantage (``batch.separators``) it is as in the code: n_j does not count them, while the
    number of tokens under b does, and the token that ends the answer gets no advantage either. Every rollout here has a
    verified outcome; PURE needs one for about a tenth of its prompts.

    Scores 0.9, 0.1 are r = 0.8, -0.8 and r* = 0, -0.8; a score of 0.5 is r* = 0. So b = 0 / 2 for the first rollout and
    -0.8 / 3 = -0.27 for the second; the outcomes give 1 and -1:

    >>> from rewards.credit.examples import example
    >>> [tokens.round(2).tolist() for tokens in min_form(example(outcomes=[1, 0], scores=[[0.9, 0.1], [0.5]]))]
    [[0.2, 0.2, 1.0], [-0.73, -1.0]]

    Known failure: from the MPRM's word alone it was hacked within about 200 steps; and while the worst step is being
    mended, nothing is learned of the others.
    """
    parts = [soft_minimum(2 * scores - 1, temperature) for scores in batch.scores]
    outcomes = leave_one_out(batch.outcomes, batch.groups)
    separators = batch.separators or [np.zeros(len(rollout.token_ids), dtype=bool) for rollout in batch.rollouts]
    advantages = []
    for rollout, part, baseline, compared, separates in zip(
        batch.rollouts, parts, _per_token(batch, parts), outcomes, separators, strict=True
    ):
        earned = part - baseline * np.array([np.sum(~separates[span.start : span.end]) for span in rollout.steps])
        tokens = rewards_to_go(at_step_ends(rollout, earned) + at_last_token(rollout, compared))
        if batch.separators and rollout.finish_reason == "stop":
            tokens[-1:] = 0.0
        advantages.append(tokens)
    return advantages


min_form.comparison = leave_one_out  # type: ignore[attr-defined]


def _per_token(batch: ScoredBatch, parts: list[np.ndarray]) -> np.ndarray:
    """What the others of each rollout's group earned a token (B,), 0 where there are none."""
    _, member = np.unique(batch.groups, return_inverse=True)
    earned = np.array([part.sum() for part in parts], dtype=float)
    lengths = np.array([len(rollout.token_ids) for rollout in batch.rollouts], dtype=float)
    others_earned = np.bincount(member, weights=earned)[member] - earned
    others_lengths = np.bincount(member, weights=lengths)[member] - lengths
    return np.where(others_lengths > 0, others_earned, 0.0) / np.maximum(others_lengths, 1.0)
