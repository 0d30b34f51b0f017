"""Bootstrap intervals over prompts: how far an accuracy, or the difference of two, could be off by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 5000


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its interval, in the estimate's unit."""

    value: float
    low: float
    high: float


def bootstrap_means(values: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """Column means of resampled rows: (P, C) values of P prompts to (``resamples``, C).

    Every column sees the same resampled prompts, so that the difference of two columns is that of paired samples.
    """
    prompts = len(values)
    drawn = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    return drawn @ values / prompts


def percentile_interval(value: float, resampled: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """The percentile interval of an estimate from its resampled values (R,) (Efron, 1979)."""
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(low), float(high))
