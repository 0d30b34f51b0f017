"""Bootstrap intervals against SciPy's, and against the binomial distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rewards.measuring.bootstrap import bootstrap_means, percentile_interval

GENERATOR = np.random.default_rng(7)
RIGHT = (GENERATOR.random((300, 2)) < [0.6, 0.7]).astype(float)


def test_an_accuracys_interval_is_scipys() -> None:
    column = RIGHT[:, 0]
    ours = percentile_interval(column.mean(), bootstrap_means(RIGHT, resamples=40_000)[:, 0])
    theirs = stats.bootstrap((column,), np.mean, method="percentile", n_resamples=40_000, random_state=1)
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, abs=0.004)
    low, high = stats.binom.interval(0.95, len(column), column.mean())
    assert (ours.low, ours.high) == pytest.approx((low / 300, high / 300), abs=0.006)
    assert ours.low < ours.value < ours.high


def test_a_difference_is_that_of_paired_samples() -> None:
    """Two strategies that agree on most prompts: their difference is known far better than either."""
    other = RIGHT[:, 0].copy()
    other[:12] = 1 - other[:12]
    values = np.column_stack([RIGHT[:, 0], other])
    means = bootstrap_means(values, resamples=40_000)
    difference = values[:, 0] - values[:, 1]
    ours = percentile_interval(difference.mean(), means[:, 0] - means[:, 1])
    theirs = stats.bootstrap((difference,), np.mean, method="percentile", n_resamples=40_000, random_state=1)
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, abs=0.004)
    alone = percentile_interval(values[:, 0].mean(), means[:, 0])
    assert ours.high - ours.low < 0.6 * (alone.high - alone.low)


def test_resampled_means_are_those_of_drawn_prompts() -> None:
    """Their mean and variance are known: the sample's mean, and its variance over the number of prompts."""
    means = bootstrap_means(RIGHT, resamples=40_000)
    assert means.shape == (40_000, 2)
    assert means.mean(0) == pytest.approx(RIGHT.mean(0), abs=1e-3)
    assert means.std(0) == pytest.approx(RIGHT.std(0) / np.sqrt(len(RIGHT)), rel=0.02)


def test_a_seed_repeats_the_draw_and_another_does_not() -> None:
    assert np.array_equal(bootstrap_means(RIGHT, seed=1), bootstrap_means(RIGHT, seed=1))
    assert not np.array_equal(bootstrap_means(RIGHT, seed=1), bootstrap_means(RIGHT, seed=2))


def test_where_all_are_right_there_is_nothing_to_draw() -> None:
    interval = percentile_interval(1.0, bootstrap_means(np.ones((50, 1)))[:, 0])
    assert (interval.low, interval.high) == (1.0, 1.0)
