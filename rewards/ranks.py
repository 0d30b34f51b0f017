"""Ranks, as rank statistics want them."""

from __future__ import annotations

import numpy as np


def average_ranks(values: np.ndarray) -> np.ndarray:
    """The place of each of N values in their order, from 1 on (N,); equal ones share the mean of theirs, and one NaN
    leaves no order at all. That is `scipy.stats.rankdata`, for which each process would import all of that package.

    >>> average_ranks(np.array([0.5, 0.1, 0.5]))
    array([2.5, 1. , 2.5])
    """
    _, place, number = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(number) - (number - 1) / 2)[place]
    return np.full(len(values), np.nan) if np.isnan(values).any() else ranks
