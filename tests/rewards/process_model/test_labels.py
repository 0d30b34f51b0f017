"""Label rules: from counts to targets, and missing stays missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.process_model.labels import LABEL_RULES, hard, soft
from rewards.records import StepCounts
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
