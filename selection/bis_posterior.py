"""BIS under a posterior of every step's success rate: what the score would be worth, given how little was sampled.

Published BIS takes correct / sampled for the success rate r_j of step j and a single success for the label "right".
With few samples both are guesses. Here r_j has the prior Beta(a, b); k of n right continuations make it

    r_j | k, n  ~  Beta(a + k, b + n - k)          independent across steps, given the counts.

A step is *truly* positive if r_j > tau, with probability

    pi_j  = P(r_j > tau | k, n)        = 1 - I_tau(a + k, b + n - k)

(I is the regularised incomplete beta function), and the success that a truly positive step has to show is

    rho_j = E[r_j 1(r_j > tau) | k, n] = (a + k) / (a + b + n) * (1 - I_tau(a + k + 1, b + n - k)),

since r times the Beta(x, y) density is x / (x + y) times the Beta(x + 1, y) density.

*Mixture.* Labels teach by contrast: p (1 - p) is the share of pairs of steps that the labels tell apart,

    p (1 - p) = (1 / m^2) * #{(i, j): y_i = 1, y_j = 0}                              of m labelled steps.

Such a pair teaches the right thing only if step i is truly positive and step j truly is not. By independence that has
probability pi_i (1 - pi_j), so the expected number of pairs that teach the right thing is a product of two sums:

    M = (1 / m^2) * (sum of pi_i over y_i = 1) * (sum of 1 - pi_j over y_j = 0).

*Reliability.* R, the mean score of the positive steps, becomes the mean of rho_j over them. For an all-negative rollout
the published R is 1. That holds only if all of its labels are true: if one step is truly positive, R is the mean score
of such steps, which have shown none. So the expectation is the probability of the first case, the product of 1 - pi_j.

    BIS_posterior = (M + alpha) R

Consequences: 8 of 16 beats 2 of 4; with the sceptical default prior (mean 1/6) one lucky success in four is worth less
than its 1/4; and five steps with 0 of 4 are worth 0.064 of what is published, with 0 of 16 0.39: rollouts of hopeless
prompts no longer tie with the surest ones.

*Prior.* Without a word on the prompts, a and b are those of the settings for all. Where prompts are chosen by
difficulty, p is the chance of a right answer to the rollout's, as it was believed before its group was answered, and so
without anything that k and n count. r_j is the expectation of the outcome, given the first j steps, so that E[r_j] = p:
the prior's mean is p. Its weight is a + b, or less for likely prompts, whose a must not grow:

    Beta(w p, w (1 - p)),        w = min(a + b, a / p).

For the less sure a prior is, the more of it lies close to 0 and to 1, and there the truth lies, too: once an answer is
off track, hardly any continuation is right, however easy its prompt. With the weight a + b, likely prompts would have
no step that is surely wrong, M would be close to 0, and what is ranked first would be what is never mixed.

*Limit.* Let n grow with k / n -> s_j, and s_j != tau. The posterior contracts to s_j, so pi_j -> 1(s_j > tau) and
rho_j -> s_j 1(s_j > tau). If no score lies in (0, tau] the labels y_j are these indicators: M -> p (1 - p), R -> the
mean score of the positive steps, or 1 if there are none, and the score tends to BIS.
"""

from __future__ import annotations

import numpy as np

from selection.candidates import Candidates

PRIOR = (0.5, 2.5)
THRESHOLD = 0.05
ALMOST_1 = 1 - 1e-12  # keeps the logarithm of 1 - pi finite


def posterior_balanced_information(
    candidates: Candidates, alpha: float, prior: tuple[float, float] = PRIOR, threshold: float = THRESHOLD
) -> np.ndarray:
    """The posterior score of each rollout (B,), in [0, 0.25 + alpha]; NaN for a rollout with no labelled step.

    Args:
        candidates: Step counts.
        alpha: BIS's alpha.
        prior: a and b, both positive, of prompts of which nothing was believed.
        threshold: tau, the success rate above which a step is truly positive, in [0, 1).
    """
    from scipy.special import betainc  # a third of a second, which those who select by other scores need not wait

    a, b = _priors(candidates, prior)
    right, wrong = candidates.correct, candidates.sampled - candidates.correct
    labelled = candidates.sampled > 0
    positive = candidates.correct > 0
    truly_positive = 1 - betainc(a + right, b + wrong, threshold)
    shown = (a + right) / (a + b + right + wrong) * (1 - betainc(a + right + 1, b + wrong, threshold))

    steps = candidates.per_rollout(labelled)
    positives = candidates.per_rollout(positive)
    upheld = candidates.per_rollout(np.where(positive, truly_positive, 0))
    refuted = candidates.per_rollout(np.where(labelled & ~positive, 1 - truly_positive, 0))
    mixture = upheld * refuted / np.maximum(steps, 1) ** 2
    all_refuted = np.exp(candidates.per_rollout(np.where(labelled, np.log1p(-np.minimum(truly_positive, ALMOST_1)), 0)))
    reliability = np.where(
        positives > 0, candidates.per_rollout(np.where(positive, shown, 0)) / np.maximum(positives, 1), all_refuted
    )
    return np.where(steps > 0, (mixture + alpha) * reliability, np.nan)


def _priors(candidates: Candidates, prior: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """a and b of each step (S,)."""
    chance = np.full(len(candidates), np.nan) if candidates.chance is None else candidates.chance
    weight = np.minimum(sum(prior), prior[0] / chance)
    nothing = np.isnan(chance)
    a, b = np.where(nothing, prior[0], weight * chance), np.where(nothing, prior[1], weight * (1 - chance))
    return a[candidates.rollout], b[candidates.rollout]
