"""Credit by what each step changed in the MPRM's mind."""

from __future__ import annotations

import numpy as np

from rewards.credit.batch import ScoredBatch
from rewards.credit.comparison import group_centred
from rewards.credit.outcome import outcome


def progress(batch: ScoredBatch, trust: float = 1.0) -> list[np.ndarray]:
    """The compared outcome plus how much more each step raised the MPRM's score than its siblings did.

    With p_j the score of step j, p_0 = 0, d_j = p_j - p_{j-1}, m_j the mean of d_j over the rollouts of the group that
    have a step j, and z(r_o) the compared outcome, the tokens of step j get

        A_j = z(r_o) + trust * (d_j - m_j) / s

    where s is the root mean square of all d_j - m_j of the batch, or of all outcomes minus their groups' means where
    that is more; tokens after the last step get z(r_o). Process rewards as progress: arXiv 2410.08146; potential-based
    shaping: Ng, Harada and Russell (1999), whose potential would be a score that does not drift by itself. Those of an
    MPRM do: it is surer of first steps than of last ones, and without m_j every further step would be punished for
    that, until answers have none. And without the outcomes in s, what an untrained MPRM says at random would count as
    much as the verdicts.

    Here the first steps are 0.1 below and above their mean, 0.6; the second 0.5 above and below theirs, -0.1. Their
    root mean square is 0.36, that of the outcomes 0.5, and the compared outcomes are 0.71 and -0.71:

    >>> from rewards.credit.examples import example
    >>> [tokens.round(2).tolist() for tokens in progress(example(outcomes=[1, 0], scores=[[0.5, 0.9], [0.7, 0.1]]))]
    [[0.51, 1.71, 0.71], [-0.51, -1.71, -0.71]]

    Known failure: an uncalibrated MPRM moves credit to the wrong step.
    """
    gains = _gains_beyond_siblings(batch)
    everything = np.concatenate([np.zeros(0), *gains])
    scale = max(_root_mean_square(everything), _root_mean_square(group_centred(batch.outcomes, batch.groups)))
    advantages = outcome(batch)
    for rollout, tokens, steps in zip(batch.rollouts, advantages, gains, strict=True):
        for span, gain in zip(rollout.steps, steps, strict=True):
            tokens[span.start : span.end] += trust * gain / (scale + 1e-6)
    return advantages


def _gains_beyond_siblings(batch: ScoredBatch) -> list[np.ndarray]:
    """Of each rollout, d_j - m_j (K,); a step whose number no sibling has is compared with nothing and gains 0."""
    gains = [np.diff(scores, prepend=0.0)[: len(scores)] for scores in batch.scores]
    longest = max(map(len, gains), default=0)
    for place in range(longest):
        there = [index for index, steps in enumerate(gains) if len(steps) > place]
        centred = group_centred(np.array([gains[index][place] for index in there]), batch.groups[there])
        for index, gain in zip(there, centred, strict=True):
            gains[index][place] = gain
    return gains


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0
