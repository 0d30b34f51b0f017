"""Paired comparison: what is printed covers the truth as often as the report says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rewards.measuring.bootstrap import CONFIDENCE
from rl.instruments.study.comparison import (
    compare,
    holm,
    student_interval,
    summarise,
)
from rl.instruments.study.report import HOW_TO_READ

STUDIES, PAIRS, TRUTH = 600, 5, 0.3


@pytest.fixture(scope="module")
def covered() -> dict[str, float]:
    """How often the intervals of many simulated studies hold the true difference."""
    generator = np.random.default_rng(0)
    # Seeds differ far more than arms do, as in a study: only pairing finds the difference.
    seeds = generator.normal(0, 10, size=(STUDIES, PAIRS))
    arms = seeds + generator.normal(TRUTH, 1, size=seeds.shape)
    baselines = seeds + generator.normal(0, 1, size=seeds.shape)
    hits = {"student": 0, "bootstrap": 0}
    for arm, baseline in zip(arms, baselines, strict=True):
        found = compare(dict(enumerate(arm)), dict(enumerate(baseline)))
        assert found is not None
        for name in hits:
            interval = getattr(found, name)
            hits[name] += interval.low <= TRUTH <= interval.high
    return {name: number / STUDIES for name, number in hits.items()}


def test_the_t_interval_covers_the_truth_as_often_as_it_says(covered: dict[str, float]) -> None:
    error = np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / STUDIES)
    assert covered["student"] == pytest.approx(CONFIDENCE, abs=4 * error)


def test_the_report_says_how_often_the_bootstrap_does(covered: dict[str, float]) -> None:
    assert covered["bootstrap"] == pytest.approx(0.84, abs=0.04)
    assert "84 % of the cases" in HOW_TO_READ


def test_pairs_are_seeds_that_both_have() -> None:
    found = compare({0: 1.0, 1: 2.5, 7: 9.0}, {0: 0.5, 1: 1.5, 2: 9.0})
    assert found is not None
    assert (found.pairs, found.value, found.above) == (2, 0.75, 2)
    assert found.p == pytest.approx(float(stats.ttest_rel([1.0, 2.5], [0.5, 1.5]).pvalue))
    assert compare({0: 1.0}, {1: 1.0}) is None


def test_a_single_pair_has_no_interval() -> None:
    found = compare({3: 1.0}, {3: 0.75})
    assert found is not None and found.value == 0.25
    assert found.student is None and found.bootstrap is None and found.p is None


def test_equal_differences_have_an_interval_without_width_and_no_p() -> None:
    found = summarise({0: 0.0, 1: 0.0})
    assert found is not None and found.student is not None
    assert (found.value, found.student.low, found.student.high, found.p, found.above) == (0, 0, 0, None, 1)


def test_the_t_interval_is_the_textbooks() -> None:
    values = np.array([1.0, 2.0, 4.0, 4.5])
    low, high = stats.t.interval(CONFIDENCE, 3, loc=values.mean(), scale=stats.sem(values))
    found = student_interval(values)
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))


def test_holm_keeps_order_and_never_exceeds_one() -> None:
    assert holm([0.5, 0.001, None, 0.9]) == pytest.approx([1.0, 0.003, None, 1.0])
    assert holm([]) == [] and holm([None]) == [None]
    # Step-down: the second smallest is multiplied by one less, but is never below the smallest's.
    assert holm([0.02, 0.021]) == pytest.approx([0.04, 0.04])


@pytest.mark.parametrize(
    ("arm", "baseline"),
    [
        ([0.3, 0.4, 0.8], [0.2, 0.3, 0.7]),
        ([0.7, 0.9, 0.6], [0.6, 0.8, 0.5]),
        ([0.1 + 0.2, 0.3, 0.3], [0.3, 0.1 + 0.2, 0.3]),
        ([1.1e-7, 2.1e-7, 3.1e-7], [1e-7, 2e-7, 3e-7]),
        ([1e6 + 0.1, 2e6 + 0.1], [1e6, 2e6]),
    ],
)
def test_differences_that_are_equal_but_for_rounding_have_no_p(arm: list[float], baseline: list[float]) -> None:
    found = compare(dict(enumerate(arm)), dict(enumerate(baseline)))
    assert found is not None and found.p is None
    assert found.above == (len(arm) if arm[-1] > baseline[-1] else len(arm) / 2), "a difference of rounding is a tie"


@pytest.mark.parametrize("differences", [[0.1, 0.1, 0.1001], [0.0, 0.0, 1e-9], [1e-9, 2e-9], [1.0, -1.0]])
def test_differences_that_differ_have_one(differences: list[float]) -> None:
    found = summarise(dict(enumerate(differences)))
    assert found is not None and found.p is not None and 0 < found.p <= 1


def test_sums_of_equal_differences_are_equal() -> None:
    found = summarise({seed: one - other for seed, (one, other) in enumerate([(0.3, 0.2), (0.4, 0.3), (0.8, 0.7)])})
    assert found is not None and found.p is None
