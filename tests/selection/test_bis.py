"""The Balanced-Information Score, against its formula written out, and its published hazards as facts."""

from __future__ import annotations

from math import comb, isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.records import StepCounts
from selection.bis import balanced_information, step_statistics
from tests.fixtures.builders import some_candidates, some_counts

pytestmark = pytest.mark.filterwarnings("error")

STEP = st.integers(0, 16).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
ROLLOUTS = st.lists(st.lists(STEP, max_size=6), max_size=8)


def scores(rollouts: list[StepCounts], alpha: float = 0.05) -> list[float]:
    return balanced_information(step_statistics(some_candidates(rollouts)), alpha).tolist()


def plain(steps: list[tuple[int, int]], alpha: float) -> float | None:
    """One rollout, straight from the formula; None without a labelled step."""
    s = [correct / sampled for correct, sampled in steps if sampled]
    if not s:
        return None
    y = [1 if score > 0 else 0 for score in s]
    p = sum(y) / len(y)
    positive = [score for score, label in zip(s, y, strict=True) if label]
    r = sum(positive) / len(positive) if positive else 1
    return (p * (1 - p) + alpha) * r


@settings(max_examples=100)
@given(ROLLOUTS, st.floats(0, 1))
def test_bis_is_its_formula(rollouts: list[list[tuple[int, int]]], alpha: float) -> None:
    counts = [some_counts([c for c, _ in steps], [n for _, n in steps]) for steps in rollouts]
    found = scores(counts, alpha)
    expected = [plain(steps, alpha) for steps in rollouts]
    assert [None if isnan(score) else pytest.approx(score, abs=1e-12) for score in found] == expected
    assert all(0 <= score <= 0.25 + alpha + 1e-12 for score in found if not isnan(score))
    statistics = step_statistics(some_candidates(counts))
    assert statistics.labelled.tolist() == [sum(n > 0 for _, n in steps) for steps in rollouts]
    assert statistics.all_negative.tolist() == [
        any(n for _, n in steps) and not any(c for c, _ in steps) for steps in rollouts
    ]


@pytest.mark.parametrize(
    ("correct", "sampled", "expected"),
    [
        pytest.param([16, 8, 4, 0], 16, (0.75 * 0.25 + 0.05) * (1 + 0.5 + 0.25) / 3, id="mixed"),
        pytest.param([16, 0], 16, 0.30, id="half right and sure: the most there is"),
        pytest.param([16, 16], 16, 0.05, id="all right and sure"),
        pytest.param([4, 12], 16, 0.05 * 0.5, id="all positive"),
        pytest.param([0, 0, 0], 16, 0.05, id="all negative: R is 1"),
        pytest.param([2, 0], [4, 0], 0.05 * 0.5, id="a missing step is no negative one"),
        pytest.param([0, 0], [4, 0], 0.05, id="negative, then missing"),
        pytest.param([1, 0], [1, 16], 0.30, id="steps with different budgets"),
    ],
)
def test_worked_examples(correct: list[int], sampled: list[int] | int, expected: float) -> None:
    assert scores([some_counts(correct, sampled)]) == pytest.approx([expected])


def test_rollouts_without_a_labelled_step_have_no_score() -> None:
    assert np.isnan(scores([some_counts([]), some_counts([0, 0], 0)])).all()
    assert scores([]) == []


def test_neighbours_in_a_batch_change_nothing() -> None:
    batch = [some_counts([3, 0]), some_counts([]), some_counts([0, 0, 0]), some_counts([0], 0), some_counts([8])]
    together = scores(batch)
    alone = [scores([entry])[0] for entry in batch]
    np.testing.assert_array_equal(together, alone)


def test_hazard_an_all_negative_rollout_is_never_below_an_all_positive_one() -> None:
    all_negative = scores([some_counts([0, 0, 0])], alpha=0.2)[0]
    assert all_negative == 0.2
    for correct in range(1, 9):
        assert scores([some_counts([correct] * 3)], alpha=0.2)[0] == pytest.approx(0.2 * correct / 8)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_hazard_a_half_mixed_rollout_needs_reliable_labels_to_win(alpha: float) -> None:
    """It beats an all-negative one only if R > alpha / (0.25 + alpha)."""
    needed = alpha / (0.25 + alpha)
    for correct in range(1, 101):
        mixed, negative = scores([some_counts([correct, 0], 100), some_counts([0, 0], 100)], alpha)
        assert (mixed > negative) == (correct / 100 > needed)


@pytest.mark.parametrize(("samples", "published"), [(16, 0.09), (4, 0.27)])
def test_hazard_few_samples_inflate_reliability(samples: int, published: float) -> None:
    """E[K / N | K > 0] = r / (1 - (1 - r)^N), here at r = 0.05."""
    r, chances = 0.05, [comb(samples, k) * 0.05**k * 0.95 ** (samples - k) for k in range(samples + 1)]
    reliability = step_statistics(
        some_candidates([some_counts([k], samples) for k in range(1, samples + 1)])
    ).reliability
    expected = float(reliability @ chances[1:] / sum(chances[1:]))
    assert expected == pytest.approx(r / (1 - (1 - r) ** samples))
    assert expected == pytest.approx(published, abs=0.005)
