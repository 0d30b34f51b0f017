"""Small batches for worked examples: every step is one token, and so is the answer after the last one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.credit.batch import ScoredBatch
from rewards.credit.comparison import Comparison, group_normalised
from rewards.records import Rollout, StepCounts, StepSpan


def example(
    outcomes: Sequence[float],
    scores: Sequence[Sequence[float]],
    correct: Sequence[Sequence[int] | None] = (),
    sampled: int = 4,
    comparison: Comparison = group_normalised,
) -> ScoredBatch:
    """Rollouts of one group.

    Args:
        outcomes: The outcome reward of each.
        scores: The MPRM's score of each step of each.
        correct: Right continuations from each step of each; None for a rollout that was not annotated.
        sampled: Continuations from each step.
        comparison: How rewards are compared.

    >>> [len(rollout.token_ids) for rollout in example([1, 0], [[0.9], [0.8, 0.1]]).rollouts]
    [2, 3]
    """
    counts = [
        None if right is None else StepCounts(np.array(right), np.full(len(right), sampled), 0) for right in correct
    ]
    return ScoredBatch(
        rollouts=[_rollout(len(steps), outcome) for outcome, steps in zip(outcomes, scores, strict=True)],
        scores=[np.array(steps, dtype=float) for steps in scores],
        counts=counts,
        comparison=comparison,
    )


def _rollout(steps: int, outcome: float) -> Rollout:
    return Rollout(
        prompt_id="example",
        source="example",
        group=0,
        token_ids=tuple(range(steps + 1)),
        logprobs=(0.0,) * (steps + 1),
        text="",
        steps=tuple(StepSpan(i, i + 1) for i in range(steps)),
        outcome=float(outcome),
        finish_reason="stop",
        policy_version=0,
    )
