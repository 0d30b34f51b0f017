"""Credit rules: from outcomes and step scores to one advantage a token.

A rule is a function ``(rollouts, step scores) -> advantages`` over the rollouts of one policy step. ``scores[i]`` holds
the MPRM's score of each step of ``rollouts[i]``, (K,) in [0, 1]; the result holds one array (T,) for each rollout.
Rollouts with equal ``group`` are answers to the same prompt and are compared with each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from rewards.records import Rollout

CreditRule = Callable[[Sequence[Rollout], Sequence[np.ndarray]], list[np.ndarray]]


def outcome(rollouts: Sequence[Rollout], scores: Sequence[np.ndarray]) -> list[np.ndarray]:
    """GRPO (arXiv 2402.03300, section 4.1.2): the verified outcome, normalised over the group, on every token.

    Known failure: sparse; a right step in a wrong answer is punished with it, and a group of equal outcomes teaches
    nothing.
    """
    return [
        np.full(len(rollout.token_ids), advantage)
        for rollout, advantage in zip(rollouts, _normalised_outcomes(rollouts), strict=True)
    ]


def progress(rollouts: Sequence[Rollout], scores: Sequence[np.ndarray], trust: float = 1.0) -> list[np.ndarray]:
    """The normalised outcome plus how much each step raised or lowered the MPRM's score.

    With p_0 the group's mean first-step score, p_j the score of step j and z(r) the outcome normalised over the group,
    the tokens of step j get

        A_j = z(r) + trust * (p_j - p_{j-1}) / s

    where s is the root mean square of all score differences of the batch; tokens after the last step get z(r). The
    differences telescope, so that writing more steps earns nothing by itself. Process rewards as progress: arXiv
    2410.08146. Known failure: an uncalibrated MPRM moves credit to the wrong step.
    """
    first = _group_means(rollouts, [values[0] if len(values) else np.nan for values in scores])
    gains = [
        np.diff(values, prepend=start) if len(values) else np.zeros(0)
        for values, start in zip(scores, first, strict=True)
    ]
    everything = np.concatenate(gains) if gains else np.zeros(0)
    scale = np.sqrt(np.mean(everything**2)) if len(everything) else 0.0
    advantages = outcome(rollouts, scores)
    for rollout, tokens, gain in zip(rollouts, advantages, gains, strict=True):
        for span, value in zip(rollout.steps, gain, strict=True):
            tokens[span.start : span.end] += trust * value / (scale + 1e-6)
    return advantages


CREDIT_RULES: dict[str, CreditRule] = {"outcome": outcome, "progress": progress}


def _normalised_outcomes(rollouts: Sequence[Rollout]) -> np.ndarray:
    outcomes = np.array([rollout.outcome for rollout in rollouts])
    centred = outcomes - _group_means(rollouts, outcomes)
    spread = np.sqrt(_group_means(rollouts, centred**2))
    return centred / (spread + 1e-4)


def _group_means(rollouts: Sequence[Rollout], values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Each rollout's group mean of ``values``, NaN left out."""
    members: dict[int, list[float]] = defaultdict(list)
    for rollout, value in zip(rollouts, values, strict=True):
        members[rollout.group].append(float(value))
    means = {
        group: float(np.nanmean(found)) if not np.all(np.isnan(found)) else 0.0 for group, found in members.items()
    }
    return np.array([means[rollout.group] for rollout in rollouts])
