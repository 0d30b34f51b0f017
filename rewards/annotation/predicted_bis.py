"""The predicted BIS of a rollout: what the published score would be, were its steps sampled in full.

Choosing before labelling needs the score of a rollout of which little is known: a probe of few continuations a step,
its own outcome, how its group fared. Looked at step by step that is too little: with one continuation a step, every
positive step looks sure. But steps hang together. Errors are rarely repaired, so a rollout is mostly described by the
place of its first error, and all evidence can be pooled into a posterior of that place.

*Model.* While an answer is on track, each step slips with probability a; once off track, each later step repairs it
with probability b. The answer is right if it is on track at the end. With m steps still to come, a continuation is
right with probability

    on_m  = w + (1 - w) l^m      from a step on track,                w = b / (a + b),  l = 1 - a - b
    off_m = w - w l^m            from a step off track                (the two-state Markov chain).

A rollout's prompt decides how often its steps slip: (1 - a)^K = u for K steps, where u is its chance of a right answer:
the mean of what was believed of that before the group was answered, Beta(v, v'), and the *other* rollouts of the group,

    u = (v + right others) / (v + v' + others).

The rollout's own verdict is evidence, see below, and nobody's of its group is in v and v', so that none counts twice.
Where nothing was believed, v = v' = 1. What was believed joins the group's verdicts, and does not take their place:
they are few, but of the very weights that wrote the rollout, and older ones count less by then. b is a constant.

*Evidence.* Hypothesis c, for c = 0 … K: the first c steps are on track, the others off. Its prior is (1 - a)^c a, and u
for c = K. Where the MPRM's step scores are given they say it instead: the chance that the first j steps are right is
the lowest score up to step j, with a hundredth spread evenly over all c. Rates differ within either state; that of
step j is

    r_j | c  ~  Beta(x m_j, x (1 - m_j))         m_j = on or off as above, concentration x.

With k of n right samples at the step that is a Beta-binomial likelihood, and Beta(x m_j + k, x (1 - m_j) + n - k)
afterwards. Samples are the continuations and the outcomes of the group's rollouts: each at the last step that it has in
common with this rollout (the rollout itself at its own last step), so that none counts at two steps.

*Score.* N is the number of continuations that a step would have in the end. Those at hand count among them; the others
are drawn from the posterior. Given c, steps are independent: q_j = P(y_j = 1), which is 1 if one of them was right
already, and e_j = E[s_j] are closed forms. With Y the number of positive steps and S the sum of their scores,

    BIS = f(Y) S      with f(Y) = ((Y / K)(1 - Y / K) + alpha) / Y;           BIS = alpha if Y = 0.

P(Y = y) and E[S; Y = y] follow from a recursion over the steps, so that the expectation is exact:

    P_j(y) = (1 - q_j) P_{j-1}(y) + q_j P_{j-1}(y - 1)
    E_j(y) = (1 - q_j) E_{j-1}(y) + q_j E_{j-1}(y - 1) + e_j P_{j-1}(y - 1)

The predicted score is its mean over the posterior of c. Once every step has its N continuations nothing is left to
predict: it is the published BIS, whatever the model says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaln

from rewards.annotation.evidence import Evidence

ONE_OF_EACH = 1.0, 1.0
"""What is believed of a prompt of which nothing is known: as if one answer had been right, and one wrong."""
REPAIR = 0.02
CONCENTRATION = 30.0
DOUBT = 0.01  # keeps probabilities away from 0 and 1: neither the last step's verdict nor the MPRM's is certain


def predicted_balanced_information(
    evidence: Evidence,
    continuations: int,
    alpha: float,
    repair: float = REPAIR,
    concentration: float = CONCENTRATION,
) -> np.ndarray:
    """The expected BIS of each rollout (B,), in [0, 0.25 + alpha]; NaN for a rollout without steps.

    Args:
        evidence: What is known so far. MPRM scores replace the prior of the first error's place.
        continuations: N, of every step in the end.
        alpha: BIS's alpha.
        repair: b, the chance that a step repairs an error before it.
        concentration: x, how alike the rates of steps in one state are, counted in samples.
    """
    steps = evidence.lengths
    longest = int(steps.max(initial=0))
    slip = 1 - _success_of_others(evidence) ** (1 / np.maximum(steps, 1))
    on_track, off_track = _success_rates(steps, longest, slip, repair)
    on, off = (_Steps(evidence, rates, concentration, continuations) for rates in (on_track, off_track))
    log_prior = _log_prior(evidence, longest, slip)

    log_posterior = log_prior + _sums_before(on.log_likelihood) + _sums_from(off.log_likelihood)
    weight = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)

    score = np.zeros(len(steps))
    so_far = _Positives.none(len(steps), longest)
    for c in range(longest + 1):
        rest = so_far
        for j in range(c, longest):
            rest = rest.after(off.positive[:, j], off.score[:, j])
        score += weight[:, c] * rest.expected_score(steps, alpha)
        if c < longest:
            so_far = so_far.after(on.positive[:, c], on.score[:, c])
    return np.where(steps > 0, score, np.nan)


class _Steps:
    """All steps in one state, (B, longest) each: likelihood of the samples, and what N continuations would show."""

    def __init__(self, evidence: Evidence, rates: np.ndarray, concentration: float, continuations: int) -> None:
        correct, sampled = _by_position(evidence, evidence.correct), _by_position(evidence, evidence.sampled)
        outcomes = _by_position(evidence, _parting(evidence, evidence.passing))
        right = correct + _by_position(evidence, _parting(evidence, evidence.passing_correct))
        wrong = sampled + outcomes - right
        there = np.arange(rates.shape[1]) < evidence.lengths[:, None]

        a, b = concentration * rates, concentration * (1 - rates)
        self.log_likelihood = np.where(there, betaln(a + right, b + wrong) - betaln(a, b), 0)
        to_come = np.maximum(continuations - sampled, 0)
        all_wrong = np.exp(betaln(a + right, b + wrong + to_come) - betaln(a + right, b + wrong))
        mean = (a + right) / (a + b + right + wrong)
        self.positive = np.where(there, np.where(correct > 0, 1, 1 - all_wrong), 0)
        self.score = np.where(there, (correct + to_come * mean) / np.maximum(sampled + to_come, 1), 0)


@dataclass(frozen=True)
class _Positives:
    """The distribution of Y over some steps: P(Y = y), and E[S; Y = y] with the sum S of their scores, (B, K + 1)."""

    probability: np.ndarray
    total: np.ndarray

    @classmethod
    def none(cls, rollouts: int, longest: int) -> _Positives:
        """Of no step yet."""
        probability = np.zeros((rollouts, longest + 1))
        probability[:, 0] = 1
        return cls(probability, np.zeros_like(probability))

    def after(self, positive: np.ndarray, score: np.ndarray) -> _Positives:
        """With one more step, q_j and e_j (B,)."""
        q, e = positive[:, None], score[:, None]
        fewer, fewer_total = _shifted(self.probability), _shifted(self.total)
        return _Positives(
            (1 - q) * self.probability + q * fewer,
            (1 - q) * self.total + q * fewer_total + e * fewer,
        )

    def expected_score(self, steps: np.ndarray, alpha: float) -> np.ndarray:
        """E[BIS] of rollouts with so many steps (B,)."""
        y = np.arange(1, self.total.shape[1])
        p = y / np.maximum(steps, 1)[:, None]
        return alpha * self.probability[:, 0] + ((p * (1 - p) + alpha) / y * self.total[:, 1:]).sum(axis=1)


def _by_position(evidence: Evidence, values: np.ndarray) -> np.ndarray:
    """A value of every step (S,) as a table (B, longest), 0 where a rollout has no such step."""
    table = np.zeros((len(evidence.lengths), int(evidence.lengths.max(initial=0))))
    table[evidence.rollout, evidence.position] = values
    return table


def _parting(evidence: Evidence, passing: np.ndarray) -> np.ndarray:
    """Of the rollouts that pass through each step, those that do not pass through the next one as well (S,)."""
    following = np.append(passing[1:], 0)
    is_last = np.append(evidence.rollout[1:] != evidence.rollout[:-1], True)[: len(passing)]
    return passing - np.where(is_last, 0, following[: len(passing)])


def _success_of_others(evidence: Evidence) -> np.ndarray:
    """u (B,): the mean of what is believed of the prompt, after the other rollouts of the group."""
    own = ~np.isnan(evidence.outcome)
    correct = evidence.group_correct - np.where(own, evidence.outcome, 0)
    believed = np.full((len(own), 2), np.nan) if evidence.believed is None else evidence.believed
    right, wrong = np.where(np.isnan(believed), ONE_OF_EACH, believed).T
    return (correct + right) / (evidence.group_sampled - own + (right + wrong))


def _success_rates(steps: np.ndarray, longest: int, slip: np.ndarray, repair: float) -> tuple[np.ndarray, np.ndarray]:
    """on_m and off_m at each step (B, longest), kept away from 0 and 1."""
    to_come = np.maximum(steps[:, None] - 1 - np.arange(longest), 0)
    settled = (repair / (slip + repair))[:, None]
    memory = np.maximum(1 - slip - repair, 0)[:, None] ** to_come
    on_track, off_track = settled + (1 - settled) * memory, settled - settled * memory
    return np.clip(on_track, DOUBT, 1 - DOUBT), np.clip(off_track, DOUBT, 1 - DOUBT)


def _log_prior(evidence: Evidence, longest: int, slip: np.ndarray) -> np.ndarray:
    """log P(c) for c = 0 … longest (B, longest + 1); minus infinity beyond a rollout's last step."""
    steps = evidence.lengths[:, None]
    if evidence.step_scores is None:
        right_so_far = (1 - slip)[:, None] ** np.arange(1, longest + 1)
    else:
        right_so_far = np.minimum.accumulate(_by_position(evidence, evidence.step_scores), axis=1)
    right_so_far = np.where(np.arange(longest) < steps, right_so_far, 0)
    end = np.zeros((len(steps), 1))
    chance = np.hstack([end + 1, right_so_far]) - np.hstack([right_so_far, end])
    if evidence.step_scores is not None:
        # Scores that do not fall at a step would give the first error no chance there at all.
        chance = (1 - DOUBT) * chance + DOUBT / (steps + 1)
    possible = np.arange(longest + 1) <= steps
    return np.where(possible, np.log(np.where(possible, chance, 1)), -np.inf)


def _sums_before(values: np.ndarray) -> np.ndarray:
    """The sum of the first c columns, for c = 0 … K: (B, K) to (B, K + 1)."""
    return np.hstack([np.zeros((len(values), 1)), np.cumsum(values, axis=1)])


def _sums_from(values: np.ndarray) -> np.ndarray:
    """The sum of the columns from c on, for c = 0 … K: (B, K) to (B, K + 1)."""
    return np.hstack([np.cumsum(values[:, ::-1], axis=1)[:, ::-1], np.zeros((len(values), 1))])


def _shifted(values: np.ndarray) -> np.ndarray:
    """Every column one to the right, zeros first."""
    return np.hstack([np.zeros((len(values), 1)), values[:, :-1]])
