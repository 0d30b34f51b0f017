"""How many continuations a step is worth: budget policies, from the evidence so far to how many more to ask for.

A policy is a pure function of `Evidence`; it knows neither engines nor rounds. It says for every step how many further
continuations it would ask for next, 0 for a step that is settled. What a step may cost is N; what it does cost:

    fixed           N at once, the published protocol.
    first_success   until one is right, which is all that the hard label needs: (1 - (1 - r)^N) / r in the mean for a
                    step with success rate r, if they are asked for one by one.
    sequential      until r > tau or r <= tau is as good as sure under a Beta posterior of r.

The last two ask for 1, 1, 2, 4, … so that a step takes at most 1 + log2(N) rounds, rounded up. Steps can be taken all
at once or in an order that makes some of them needless, `rewards.annotation.first_error`; and `Triage` labels only the
promising rollouts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import betainc

from rewards.annotation.evidence import Evidence
from rewards.annotation.first_error import FirstError

Policy = Callable[[Evidence], np.ndarray]
"""``evidence -> continuations to ask for next, for each step (S,)``, integers; 0 for a step that is settled."""

Rank = Callable[[Evidence], np.ndarray]
"""``evidence -> how promising each rollout is (B,)``; NaN for one that is not to be labelled."""


@dataclass(frozen=True)
class Triage:
    """Probe every rollout, then label the most promising ones only.

    Attributes:
        probe: Continuations a step that every rollout gets; 0 to choose by outcomes or MPRM scores alone.
        ratio: Share of each source's rollouts that is labelled.
        rank: How promising each rollout is, after the probe.
    """

    probe: int
    ratio: float
    rank: Rank

    def choose(self, evidence: Evidence) -> np.ndarray:
        """Which rollouts to label (B,): of each source's m rankable ones the best ``max(1, int(m * ratio))``.

        Equal ranks keep the order of the batch, as in published selection.
        """
        scores = self.rank(evidence)
        chosen = np.zeros(len(scores), dtype=bool)
        for source in np.unique(evidence.source):
            places = np.flatnonzero((evidence.source == source) & ~np.isnan(scores))
            best = places[np.argsort(-scores[places], kind="stable")]
            chosen[best[: max(1, int(len(places) * self.ratio))]] = True
        return chosen


@dataclass(frozen=True)
class Budget:
    """What labelling may cost, and what counts as evidence. See `make_budget`, which makes one from names."""

    policy: Policy
    continuations: int
    first_error: FirstError
    outcome_weight: float
    share_prefixes: bool
    triage: Triage | None


def make_budget(
    name: str,
    continuations: int,
    *,
    first_error: FirstError = "ignore",
    error: float = 0.1,
    threshold: float = 0.1,
    prior: tuple[float, float] = (0.1, 0.5),
    outcome_weight: float = 0.0,
    share_prefixes: bool = False,
    triage_policy: str = "fixed",
    triage_ratio: float = 0.25,
    probe: int = 2,
    rank: Rank | None = None,
) -> Budget:
    """The budget of that name.

    Args:
        name: ``fixed``, ``first_success``, ``sequential`` or ``triage``.
        continuations: N, the most continuations of a step.
        first_error: ``ignore``, ``stop`` or ``search``; see `rewards.annotation.first_error`.
        error, threshold, prior: Of ``sequential``.
        outcome_weight: What a rollout's own outcome counts at each of its prefixes, beside a continuation; 0 for not
            at all.
        share_prefixes: Whether equal prefixes within a group are sampled once and share their counts.
        triage_policy: Of ``triage``: the policy for the chosen rollouts, which the probe's samples count towards.
        triage_ratio, probe, rank: Of ``triage``; see `Triage`.

    Raises:
        ValueError: There is no such budget, or ``triage`` has nothing to rank by.
    """
    policies: dict[str, Policy] = {
        "fixed": partial(fixed, continuations=continuations),
        "first_success": partial(first_success, continuations=continuations),
        "sequential": partial(sequential, continuations=continuations, error=error, threshold=threshold, prior=prior),
    }
    triage = None
    if name == "triage":
        if rank is None:
            raise ValueError("the budget 'triage' needs a function that ranks rollouts")
        triage, name = Triage(probe, triage_ratio, rank), triage_policy
    if name not in policies:
        raise ValueError(f"{name!r} is no budget; allowed are {', '.join(policies)} and triage")
    return Budget(policies[name], continuations, first_error, outcome_weight, share_prefixes, triage)


def fixed(evidence: Evidence, continuations: int) -> np.ndarray:
    """All of them at once."""
    return np.maximum(continuations - evidence.asked, 0)


def first_success(evidence: Evidence, continuations: int) -> np.ndarray:
    """More while nothing was right; a right outcome that counts is a success."""
    return np.where(evidence.right > 0, 0, _next_chunk(evidence, continuations))


def sequential(
    evidence: Evidence, continuations: int, error: float, threshold: float, prior: tuple[float, float]
) -> np.ndarray:
    """More while error <= P(r > threshold) <= 1 - error, where r ~ Beta(a + right, b + wrong).

    A step's label comes from its counts: it is not settled as right before one continuation was.
    """
    a, b = prior
    right, wrong = evidence.right, evidence.finished - evidence.right
    above = 1 - betainc(a + right, b + wrong, threshold)
    settled = (above < error) | ((above > 1 - error) & (right > 0))
    return np.where(settled, 0, _next_chunk(evidence, continuations))


def _next_chunk(evidence: Evidence, continuations: int) -> np.ndarray:
    """As many as were asked for before, at least 1, and no more than are left.

    What was asked for counts, not what finished: a step whose continuations are always cut off comes to its end too.
    """
    return np.minimum(np.maximum(evidence.asked, 1), np.maximum(continuations - evidence.asked, 0))
