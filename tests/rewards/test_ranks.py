"""Ranks are SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from rewards.ranks import average_ranks


@pytest.mark.parametrize("number", [0, 1, 2, 50])
def test_ranks_are_those_of_scipy(number: int) -> None:
    generator = np.random.default_rng(number)
    for _ in range(20):
        values = generator.integers(0, 8, number) / 7
        np.testing.assert_array_equal(average_ranks(values), rankdata(values))
        values[: number // 2] = np.nan
        np.testing.assert_array_equal(average_ranks(values), rankdata(values))
