"""A credit rule applied: whatever a user's rule does, there is one line about it."""

from __future__ import annotations

import numpy as np

from rewards.credit.batch import CreditRule, ScoredBatch
from rewards.users_code import in_one_line


class CreditError(Exception):
    """A credit rule failed, or did not give one finite number a token."""


def apply_rule(name: str, rule: CreditRule, batch: ScoredBatch) -> list[np.ndarray]:
    """The rule's advantages (or rewards): one array (T,) of finite numbers for each rollout.

    Raises:
        CreditError: It raised, or gave something else; ``name`` says which rule.
    """
    with in_one_line(f"{name} failed", CreditError):
        given = [np.asarray(tokens, dtype=float) for tokens in rule(batch)]
    shapes, allowed = [tokens.shape for tokens in given], [(len(r.token_ids),) for r in batch.rollouts]
    if len(shapes) != len(allowed):
        raise CreditError(f"{name} gave {len(shapes)} arrays for {len(allowed)} rollouts; allowed is one a rollout")
    for place, (tokens, shape) in enumerate(zip(given, allowed, strict=True)):
        if tokens.shape != shape:
            raise CreditError(f"{name} gave rollout {place} the shape {tokens.shape}; allowed is one a token, {shape}")
        if not np.isfinite(tokens).all():
            raise CreditError(f"{name} gave rollout {place} a number that is not finite; allowed are finite ones")
    return given
