"""Label rules: from counts to targets, and missing stays missing."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.process_model.labels import LABEL_RULES, checked_rule, hard, soft
from rewards.records import StepCounts
from rewards.users_code import UsersCodeError
from tests.fixtures.builders import some_counts

COUNTS = st.lists(st.integers(0, 16).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), max_size=12)


@pytest.mark.filterwarnings("error")  # a division by zero would warn
@given(COUNTS)
def test_labels_are_those_of_the_papers(pairs: list[tuple[int, int]]) -> None:
    counts = some_counts([correct for correct, _ in pairs], [sampled for _, sampled in pairs])
    assert [None if np.isnan(y) else y for y in hard(counts)] == [
        None if sampled == 0 else 1.0 if correct / sampled > 0 else 0.0 for correct, sampled in pairs
    ]
    assert [None if np.isnan(y) else y for y in soft(counts)] == [
        None if sampled == 0 else correct / sampled for correct, sampled in pairs
    ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([1.0], "mine gave the shape (1,) for 2 steps; allowed is one a step"),
        ([2.0, 0.0], "mine gave a step 2; allowed is a number from 0 to 1, or NaN"),
        ([0.0, -0.5], "mine gave a step -0.5; allowed"),
        ([np.inf, 0.0], "mine gave a step inf; allowed"),
        (["a", "b"], "mine failed: ValueError: could not convert"),
        (None, "mine gave the shape () for 2 steps"),
    ],
)
def test_what_is_no_target_of_ones_own_rule_is_one_line(given: Any, told: str) -> None:
    counts = some_counts([1, 0], [4, 4])
    with pytest.raises(UsersCodeError, match=re.escape(told)):
        checked_rule("mine", lambda counts: given)(counts)
    assert np.array_equal(checked_rule("mine", lambda counts: [np.nan, 0.5])(counts), [np.nan, 0.5], equal_nan=True)


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), KeyError("a")])
def test_whatever_ones_own_rule_raises_is_one_line(error: BaseException) -> None:
    def failing(counts: StepCounts) -> np.ndarray:
        raise error

    with pytest.raises(UsersCodeError, match=f"mine failed: {type(error).__name__}: "):
        checked_rule("mine", failing)(some_counts([1], [4]))


def test_what_ones_own_rule_does_to_the_counts_changes_nothing() -> None:
    def changes(counts: StepCounts) -> np.ndarray:
        counts.sampled[:] = 0
        return counts.sampled

    counts = some_counts([1, 0], [4, 4])
    assert checked_rule("mine", changes)(counts).tolist() == [0, 0] and counts.sampled.tolist() == [4, 4]


def test_label_rules_are_found_by_their_names() -> None:
    assert {"hard": hard, "soft": soft} == LABEL_RULES


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("correct", "sampled", "expected"),
    [
        ([0.5, 0.0], [0.5, 0.5], [1.0, 0.0]),
        ([0.25, 0.1], [0.25, 0.4], [1.0, 0.25]),
        ([1.25, 0.0], [2.5, 0.0], [0.5, np.nan]),
        ([1e-9, 3.0], [1e-9, 4.0], [1.0, 0.75]),
    ],
)
def test_evidence_with_a_weight_is_a_share_like_any_other(
    correct: list[float], sampled: list[float], expected: list[float]
) -> None:
    assert soft(StepCounts(np.array(correct), np.array(sampled), 0)).tolist() == pytest.approx(expected, nan_ok=True)
