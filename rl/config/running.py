"""Sections on how a run is measured, mended and replayed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.measuring.strategies import Strategy
from rewards.section import Count, Section


class RecoveryConfig(Section):
    """What happens when a worker dies, or does not answer within `deadline`."""

    attempts: Annotated[int, Field(ge=0)] = 3
    """Times in a row, without a new finished policy step, that the run begins anew from its newest checkpoint; then, or
    with 0 at once, it stops with the cause."""


class ReplayConfig(Section):
    """How a recorded stream is replayed, see `rl.instruments.replay.replay`; a training run reads nothing of it."""

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


class EvaluationConfig(Section):
    """Held-out evaluation, at the start, at the end, and in between."""

    prompts: Count = 512
    """Held-out prompts, always the same. A table with fewer rows begins again; intervals are over the rows."""
    samples: Count = 2
    """Answers sampled for each, at the training temperature."""
    every: Annotated[int, Field(ge=0)] = 0
    """Policy steps between evaluations; 0 for start and end only."""
    strategies: tuple[Strategy, ...] = ()
    """Test-time strategies to try on held-out prompts, too, judged by the MPRM; see `sieve eval policy --help`."""
    strategy_n: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 4, 8)
    """Their numbers of samples."""
    strategy_prompts: Count = 128
    """Their held-out prompts."""
    strategies_every: Annotated[int, Field(ge=0)] = 0
    """Policy steps between two of these evaluations; 0 for start and end only."""
    bench: Literal["visualprocessbench", "processbench"] | None = None
    """A benchmark of people's step labels that the MPRM is evaluated on, too; null for none."""
    bench_path: str | None = None
    """Its folder: JSON lines as published, and the images they name."""
    bench_every: Annotated[int, Field(ge=0)] = 0
    """Policy steps between evaluations on it; 0 for start and end only."""
