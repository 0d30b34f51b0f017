"""Rewards of single tokens, for PPO: a value model makes advantages of them, so that nothing is compared here.

Each rule gives one array (T,) for each rollout. A step's reward falls on its last token, the answer's on the rollout's.
"""

from __future__ import annotations

import numpy as np

from rewards.credit.additive import mean_scores
from rewards.credit.batch import CreditRule, ScoredBatch
from rewards.credit.comparison import group_means
from rewards.credit.placement import at_last_token, at_step_ends

__all__ = ["TOKEN_REWARDS"]


def outcome(batch: ScoredBatch) -> list[np.ndarray]:
    """The outcome reward on the last token.

    >>> from rewards.credit.examples import example
    >>> [tokens.tolist() for tokens in outcome(example(outcomes=[1], scores=[[0.9, 0.4]]))]
    [[0.0, 0.0, 1.0]]

    Known failure: sparse; the value model has to find out by itself which step earned it.
    """
    return [at_last_token(rollout, rollout.outcome) for rollout in batch.rollouts]


outcome.needs_scores = False  # type: ignore[attr-defined]


def process(batch: ScoredBatch) -> list[np.ndarray]:
    """Each step's score at its end, and the outcome reward on the last token (Math-Shepherd, arXiv 2312.08935).

    >>> from rewards.credit.examples import example
    >>> [tokens.tolist() for tokens in process(example(outcomes=[1], scores=[[0.9, 0.4]]))]
    [[0.9, 0.4, 1.0]]

    Known failure: scores are not negative, so every further step pays.
    """
    return [at_step_ends(r, p) + last for r, p, last in zip(batch.rollouts, batch.scores, outcome(batch), strict=True)]


def additive(batch: ScoredBatch) -> list[np.ndarray]:
    """The outcome reward plus the mean step score, on the last token.

    >>> from rewards.credit.examples import example
    >>> [tokens.tolist() for tokens in additive(example(outcomes=[1], scores=[[0.75, 0.25]]))]
    [[0.0, 0.0, 1.5]]

    Known failure: fewer steps raise the mean; see `rewards.credit.additive`.
    """
    rewards = batch.outcomes + mean_scores(batch)
    return [at_last_token(rollout, reward) for rollout, reward in zip(batch.rollouts, rewards, strict=True)]


def progress(batch: ScoredBatch) -> list[np.ndarray]:
    """What each step changed in the MPRM's score at its end, p_j - p_{j-1}, and r_o - p_K on the last token.

    p_0 is the group's mean first-step score; without steps p_K is p_0. The rewards of a rollout sum to r_o - p_0
    whatever the MPRM says, so that with gamma = 1 the best policy is the one for the outcome alone (Ng, Harada and
    Russell, 1999); the MPRM decides only when the reward comes.

    >>> from rewards.credit.examples import example
    >>> [tokens.round(2).tolist() for tokens in progress(example(outcomes=[1, 0], scores=[[0.5, 0.9], [0.7]]))]
    [[-0.1, 0.4, 0.1], [0.1, -0.7]]

    Known failure: an uncalibrated MPRM adds noise for the value model to average out.
    """
    rewards = []
    for rollout, scores, start in zip(batch.rollouts, batch.scores, starting_scores(batch), strict=True):
        potentials = [start, *scores]
        ends = at_last_token(rollout, rollout.outcome - potentials[-1])
        rewards.append(at_step_ends(rollout, np.diff(potentials)) + ends)
    return rewards


def starting_scores(batch: ScoredBatch) -> np.ndarray:
    """p_0, the score before the first step (B,): the mean first-step score of the group, 0 where no rollout has steps.

    A step-scoring MPRM says nothing of a bare prompt; this is the same for all answers to it, as a baseline must be.
    """
    stepped = np.array([len(scores) > 0 for scores in batch.scores], dtype=bool)
    first = np.array([scores[0] if len(scores) else 0.0 for scores in batch.scores], dtype=float)
    if not stepped.any():
        return np.zeros(len(first))
    share = group_means(stepped.astype(float), batch.groups)
    return group_means(first, batch.groups) / np.where(share > 0, share, 1.0)


TOKEN_REWARDS: dict[str, CreditRule] = {
    "outcome": outcome,
    "process": process,
    "additive": additive,
    "progress": progress,
}
