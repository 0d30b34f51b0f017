"""Credit by what each step changed in the MPRM's mind."""

from __future__ import annotations

import numpy as np

from rewards.credit.batch import ScoredBatch
from rewards.credit.comparison import group_means
from rewards.credit.outcome import outcome


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


def progress(batch: ScoredBatch, trust: float = 1.0) -> list[np.ndarray]:
    """The compared outcome plus how much each step raised or lowered the MPRM's score.

    With p_0 the group's mean first-step score, p_j the score of step j and z(r_o) the compared outcome, the tokens of
    step j get

        A_j = z(r_o) + trust * (p_j - p_{j-1}) / s

    where s is the root mean square of all score differences of the batch; tokens after the last step get z(r_o). The
    differences telescope to p_K - p_0, so that writing more steps earns nothing by itself. Process rewards as progress:
    arXiv 2410.08146; potential-based shaping: Ng, Harada and Russell (1999).

    Here p_0 = (0.5 + 0.7) / 2 = 0.6, the differences are -0.1, 0.4 and 0.1, -0.6 with root mean square 0.37, and the
    outcomes become 0.71 and -0.71:

    >>> from rewards.credit.examples import example
    >>> [tokens.round(2).tolist() for tokens in progress(example(outcomes=[1, 0], scores=[[0.5, 0.9], [0.7, 0.1]]))]
    [[0.43, 1.8, 0.71], [-0.43, -2.34, -0.71]]

    Known failure: an uncalibrated MPRM moves credit to the wrong step.
    """
    gains = [np.diff(p, prepend=p_0)[: len(p)] for p, p_0 in zip(batch.scores, starting_scores(batch), strict=True)]
    everything = np.concatenate([np.zeros(0), *gains])
    scale = np.sqrt(np.mean(everything**2)) if len(everything) else 0.0
    advantages = outcome(batch)
    for rollout, tokens, steps in zip(batch.rollouts, advantages, gains, strict=True):
        for span, gain in zip(rollout.steps, steps, strict=True):
            tokens[span.start : span.end] += trust * gain / (scale + 1e-6)
    return advantages
