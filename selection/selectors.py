"""Selectors: which annotated rollouts are worth learning from. One function each, step counts in, scores out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rewards.records import StepCounts
from selection.bis import balanced_information, step_statistics

Selector = Callable[[Sequence[StepCounts], np.random.Generator], np.ndarray]
"""``(counts of B rollouts, random generator) -> scores (B,)``: higher is more worth keeping, NaN is not to be kept."""


def make_selector(name: str, alpha: float) -> Selector:
    """The selector of that name; ``alpha`` is BIS's weight of reliability without mixture.

    Raises:
        KeyError: No selector has that name.
    """
    selectors: dict[str, Selector] = {
        "bis": lambda counts, generator: balanced_information(step_statistics(counts), alpha),
        "random": _random,
    }
    return selectors[name]


def _random(counts: Sequence[StepCounts], generator: np.random.Generator) -> np.ndarray:
    """A uniform score: the comparison every other selector has to beat at the same keep ratio."""
    labelled = step_statistics(counts).labelled
    return np.where(labelled > 0, generator.random(len(counts)), np.nan)
