"""The section of a replay: how a recorded stream is fed to a selector, a buffer and a reward model once more."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rl.config_sections import Count, Section


class ReplayConfig(Section):
    """How a recorded stream is replayed, see `rl.replay.replay`; a training run reads nothing of it."""

    order: Literal["online", "frozen"] = "online"
    """`online` (rollouts are offered step by step, as they came) or `frozen` (all of them in one offer, shuffled,
    before the first update: the published, offline setting)."""
    optimizer_steps: Count = 40
    """Optimizer steps of the MPRM in all, spread evenly over its updates."""
    heldout: Count = 256
    """Held-out rollouts of each recorded evaluation that are scored, the first ones."""
    tokens: Annotated[int, Field(ge=0)] = 0
    """Continuation tokens that labels may cost in all, spread evenly over the policy steps, under the budget of
    `annotation`; 0 for the counts as they were recorded."""
