"""Batches for tests of credit rules: any groups, outcomes, scores, counts, step lengths and gaps between steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from rewards.credit.batch import ScoredBatch
from rewards.credit.comparison import Comparison, group_normalised
from rewards.records import Rollout, StepSpan
from tests.builders import a_rollout, some_counts


@dataclass(frozen=True)
class Step:
    """A step's score, its right and sampled continuations, its tokens, and the tokens before it that are in none."""

    score: float
    correct: int
    sampled: int
    tokens: int
    gap: int


@dataclass(frozen=True)
class Case:
    """One rollout, its steps, the tokens after the last one, and whether it was annotated."""

    group: int
    outcome: float
    steps: list[Step]
    tail: int
    annotated: bool


STEPS = st.builds(
    lambda score, counts, tokens, gap: Step(score, counts[0], counts[1], tokens, gap),
    st.floats(0, 1, allow_subnormal=False),
    st.integers(0, 4).flatmap(lambda sampled: st.tuples(st.integers(0, sampled), st.just(sampled))),
    st.integers(1, 3),
    st.sampled_from([0, 0, 0, 2]),
)
OUTCOMES = st.sampled_from([0.0, 1.0, 0.25, -0.5])
CASES = st.lists(
    st.builds(Case, st.integers(0, 2), OUTCOMES, st.lists(STEPS, max_size=4), st.integers(0, 2), st.booleans()),
    max_size=8,
)


def rollout_of(case: Case) -> Rollout:
    spans, end = [], 0
    for step in case.steps:
        spans.append(StepSpan(end + step.gap, end + step.gap + step.tokens))
        end = spans[-1].end
    whole = a_rollout([end], tail=case.tail, outcome=case.outcome, group=case.group)
    return replace(whole, steps=tuple(spans))


def batch_of(cases: list[Case], comparison: Comparison = group_normalised, counted: bool = True) -> ScoredBatch:
    counts = [
        some_counts([s.correct for s in case.steps], [s.sampled for s in case.steps]) if case.annotated else None
        for case in cases
    ]
    return ScoredBatch(
        rollouts=[rollout_of(case) for case in cases],
        scores=[np.array([step.score for step in case.steps]) for case in cases],
        counts=counts if counted else (),
        comparison=comparison,
    )


def simple(
    outcomes: list[float], scores: list[list[float]], groups: list[int] | None = None, tail: int = 1
) -> ScoredBatch:
    """One token a step, ``tail`` after them."""
    steps = [[Step(score, 0, 0, 1, 0) for score in row] for row in scores]
    groups = groups or [0] * len(outcomes)
    return batch_of(
        [Case(g, o, row, tail, False) for g, o, row in zip(groups, outcomes, steps, strict=True)], counted=False
    )
