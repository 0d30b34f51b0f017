"""Laying rollouts end to end, and refusing evidence that cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.records import Annotated, StepCounts, StepScores
from selection.candidates import gather_candidates
from tests.fixtures.builders import (
    a_prompt,
    a_rollout,
    an_annotated,
    some_counts,
)


def annotated(counts: StepCounts, name: str = "cat", group: int = 7) -> Annotated:
    return Annotated(a_prompt(name), a_rollout([1], prompt=name, group=group), counts)


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), max_size=6))
def test_steps_lie_end_to_end_and_sums_come_back_by_rollout(rollouts: list[list[int]]) -> None:
    candidates = gather_candidates([an_annotated(correct, 9) for correct in rollouts])
    assert candidates.correct.tolist() == [c for correct in rollouts for c in correct]
    assert candidates.rollout.tolist() == [place for place, correct in enumerate(rollouts) for _ in correct]
    assert candidates.per_rollout(candidates.correct).tolist() == [sum(correct) for correct in rollouts]
    assert len(candidates) == len(rollouts)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (some_counts([9], 8), "more right than sampled continuations; its counts: right [9] of [8]"),
        (some_counts([-1], 8), "a count is negative; its counts: right [-1] of [8]"),
        (some_counts([-2], -1), "a count is negative"),
        (some_counts([1], 0), "more right than sampled"),
        (some_counts([]), "it has no step"),
        (StepCounts(np.array([1, 2]), np.array([8]), 0), "as many right as sampled counts are needed"),
        (StepCounts(np.array([np.nan]), np.array([8]), 0), "a count is not a number"),
        (StepCounts(np.array([1]), np.array([np.nan]), 0), "a count is not a number"),
        (StepCounts(np.array([1]), np.array([np.inf]), 0), "a count is not a number"),
    ],
)
def test_evidence_that_cannot_be_is_refused_by_the_rollouts_name(wrong: StepCounts, told: str) -> None:
    batch = [an_annotated([1]), an_annotated([3, 0], [8, 0]), annotated(wrong), annotated(wrong, "dog")]
    with pytest.raises(ValueError) as caught:
        gather_candidates(batch)
    assert str(caught.value).startswith("rollout 2 of the batch (prompt 'cat', group 7): ")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("scores", "told"),
    [([0.5], "one MPRM score a step is needed"), ([0.5, 1.5], "not in [0, 1]"), ([np.nan, 0.5], "not in [0, 1]")],
)
def test_scores_that_cannot_be_are_refused(scores: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=r"rollout 1 of the batch .*") as caught:
        gather_candidates(
            [an_annotated([1, 0]), an_annotated([1, 0])],
            [StepScores(np.array([0.1, 0.2]), 0), StepScores(np.array(scores), 0)],
        )
    assert told in str(caught.value)


@pytest.mark.parametrize("entropy", [-0.1, 1.1, np.nan])
def test_an_entropy_that_cannot_be_is_refused(entropy: float) -> None:
    with pytest.raises(ValueError, match=r"rollout 1 of the batch .*entropy is not in \[0, 1\]"):
        gather_candidates([an_annotated([1]), an_annotated([1])], complexity=np.array([0.5, entropy]))


@pytest.mark.parametrize("chance", [0.0, 1.0, -0.1, 1.1])
def test_a_chance_that_cannot_be_is_refused(chance: float) -> None:
    batch = [an_annotated([1]), an_annotated([1])]
    with pytest.raises(ValueError, match=r"rollout 1 of the batch .*chance of a right answer is not in \(0, 1\)"):
        gather_candidates(batch, chance=np.array([np.nan, chance]))
