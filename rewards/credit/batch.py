"""What a credit rule sees: the rollouts of one policy step, what was said of them, and how rewards are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np

from rewards.credit.comparison import Comparison, group_normalised
from rewards.records import Rollout, StepCounts
from rewards.users_code import UsersCodeError, in_one_line


@dataclass(frozen=True)
class ScoredBatch:
    """The rollouts of one policy step.

    Attributes:
        rollouts: B rollouts; those with equal ``group`` answer the same prompt and are compared with each other. Their
            ``outcome`` is the outcome reward.
        scores: The MPRM's score of each step of each rollout, (K,) in [0, 1].
        counts: Monte-Carlo counts of the rollouts that were annotated, None for the others; empty where the rule runs
            before annotation.
        comparison: The algorithm's way from rewards to advantages; see `rewards.credit.comparison`.
        separators: Of each rollout, which tokens only separate steps (T,), where these get no advantage whatever the
            rule says; empty where they get one.
    """

    rollouts: Sequence[Rollout]
    scores: Sequence[np.ndarray]
    counts: Sequence[StepCounts | None] = ()
    comparison: Comparison = group_normalised
    separators: Sequence[np.ndarray] = ()

    @property
    def groups(self) -> np.ndarray:
        """(B,) group numbers."""
        return np.array([rollout.group for rollout in self.rollouts], dtype=np.int64)

    @property
    def outcomes(self) -> np.ndarray:
        """(B,) outcome rewards."""
        return np.array([rollout.outcome for rollout in self.rollouts], dtype=float)

    def compared(self, rewards: np.ndarray) -> np.ndarray:
        """One reward a rollout (B,) as advantages (B,)."""
        return self.comparison(np.asarray(rewards, dtype=float), self.groups)

    def on_every_token(self, rewards: np.ndarray) -> list[np.ndarray]:
        """One reward a rollout (B,), compared, as the advantage of each of its tokens: one (T,) a rollout."""
        compared = self.compared(rewards)
        return [np.full(len(r.token_ids), value) for r, value in zip(self.rollouts, compared, strict=True)]


CreditRule = Callable[[ScoredBatch], list[np.ndarray]]
"""Gives one array (T,) for each rollout: the advantage of each token, or with PPO the reward that each token earns.

A rule that wants ``counts`` says so by an attribute ``needs_counts = True``; annotation then comes before the update.
One that does without ``scores`` says ``needs_scores = False``: it may get empty ones, and the update need not wait.
One that compares outcomes by itself says how in ``comparison``: continuations that the policy learns from are then in
its units.
"""


def apply_rule(name: str, rule: CreditRule, batch: ScoredBatch) -> list[np.ndarray]:
    """The rule's advantages (or rewards): one array (T,) of finite numbers for each rollout.

    Raises:
        UsersCodeError: It raised, or gave something else; ``name`` says which rule.
    """
    said = {name: deepcopy(getattr(batch, name)) for name in ("scores", "counts", "separators")}
    copied = replace(batch, rollouts=list(batch.rollouts), **said)  # to do anything with
    with in_one_line(name):
        given = [np.asarray(tokens, dtype=float) for tokens in rule(copied)]
    shapes, allowed = [tokens.shape for tokens in given], [(len(r.token_ids),) for r in batch.rollouts]
    if len(shapes) != len(allowed):
        raise UsersCodeError(f"{name} gave {len(shapes)} arrays for {len(allowed)} rollouts; allowed is one a rollout")
    for place, (tokens, shape) in enumerate(zip(given, allowed, strict=True)):
        if tokens.shape != shape:
            raise UsersCodeError(
                f"{name} gave rollout {place} the shape {tokens.shape}; allowed is one a token, {shape}"
            )
        if not np.isfinite(tokens).all():
            raise UsersCodeError(f"{name} gave rollout {place} a number that is not finite; allowed are finite ones")
    return given
