"""Metrics of step scores against people's labels.

A step whose score is at least the threshold is called right. Functions that take ``thresholds`` answer for all of them
at once. Neutral steps are no part of anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.measuring.process_benchmark import RIGHT, WRONG
from rewards.measuring.process_scores import ScoredSolution

BINS = 10
"""Of the calibration error and the reliability plot: [0, 0.1), [0.1, 0.2), … [0.9, 1]."""


@dataclass(frozen=True)
class LabelledSteps:
    """The scores of N steps that are right or wrong (N,), and which are right (N,)."""

    scores: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class StepF1:
    """F1 at T thresholds (T,); of steps that are right, that are wrong, and the mean of both."""

    positive: np.ndarray
    negative: np.ndarray

    @property
    def macro(self) -> np.ndarray:
        return (self.positive + self.negative) / 2


@dataclass(frozen=True)
class FirstErrors:
    """ProcessBench's metric at T thresholds (T,); NaN where there is no solution of the kind.

    Attributes:
        with_error: Share of the solutions with an error whose first wrong step is named.
        without_error: Share of the others of which no step is called wrong.
    """

    with_error: np.ndarray
    without_error: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of the two, 0 if both are."""
        return _ratio(2 * self.with_error * self.without_error, self.with_error + self.without_error)


@dataclass(frozen=True)
class Calibration:
    """The steps in each of the `BINS` bins of equal width: mean score and share of right ones (NaN without any)."""

    steps: np.ndarray
    score: np.ndarray
    right: np.ndarray


def labelled_steps(solutions: Sequence[ScoredSolution], kind: str | None = None) -> LabelledSteps:
    """The steps that are right or wrong, in order; only those of a kind, if one is given."""
    wanted = _wanted(solutions, kind)
    right = _end_to_end([solution.labels for solution in solutions])[wanted] == RIGHT
    return LabelledSteps(_end_to_end([solution.scores for solution in solutions])[wanted], right)


def step_indices(solutions: Sequence[ScoredSolution], kind: str | None = None) -> np.ndarray:
    """Where in its solution each of `labelled_steps` stands, from 0 (N,)."""
    return _end_to_end([np.arange(len(solution.scores)) for solution in solutions])[_wanted(solutions, kind)]


def problems(solutions: Sequence[ScoredSolution], kind: str | None = None) -> np.ndarray:
    """Which problem each of `labelled_steps` is about, by number (N,)."""
    numbers = np.unique([solution.problem for solution in solutions], return_inverse=True)[1]
    every = [np.full(len(solution.scores), number) for solution, number in zip(solutions, numbers, strict=True)]
    return _end_to_end(every)[_wanted(solutions, kind)]


def by_source(solutions: Sequence[ScoredSolution]) -> dict[str, list[ScoredSolution]]:
    """The solutions of each source, by its name."""
    groups: dict[str, list[ScoredSolution]] = {}
    for solution in solutions:
        groups.setdefault(solution.source, []).append(solution)
    return dict(sorted(groups.items()))


def step_f1(steps: LabelledSteps, thresholds: np.ndarray) -> StepF1:
    """F1 of each class, 2 TP / (2 TP + FP + FN); 0 where the class neither occurs nor is named, as published."""
    true_positive = _at_least(steps.scores[steps.right], thresholds)
    false_positive = _at_least(steps.scores[~steps.right], thresholds)
    false_negative = steps.right.sum() - true_positive
    true_negative = (~steps.right).sum() - false_positive
    errors = false_positive + false_negative
    return StepF1(
        positive=_ratio(2 * true_positive, 2 * true_positive + errors),
        negative=_ratio(2 * true_negative, 2 * true_negative + errors),
    )


def micro_over_sources(solutions: Sequence[ScoredSolution], thresholds: np.ndarray) -> np.ndarray:
    """VisualProcessBench's headline (T,): macro-F1 of each source, averaged with its number of labelled steps."""
    groups = [labelled_steps(members) for members in by_source(solutions).values()]
    total = sum(len(steps.scores) for steps in groups)
    return sum((step_f1(steps, thresholds).macro * len(steps.scores) for steps in groups), np.zeros(1)) / total


def first_errors(solutions: Sequence[ScoredSolution], thresholds: np.ndarray) -> FirstErrors:
    """How often the first step below the threshold is the first wrong one, or there is none where none is wrong.

    With an error at step k, that holds for thresholds above its score and up to the lowest score before it; without
    one, up to the lowest score of all.
    """
    lowest_before, own, lowest = [], [], []
    for solution in solutions:
        errors = np.flatnonzero(solution.labels == WRONG)
        if len(errors):
            own.append(solution.scores[errors[0]])
            lowest_before.append(np.min(solution.scores[: errors[0]], initial=np.inf))
        else:
            lowest.append(solution.scores.min())
    scores, limits = np.array(own), np.array(lowest_before)
    nameable = scores < limits
    named = _at_least(limits[nameable], thresholds) - _at_least(scores[nameable], thresholds)
    passed = _at_least(np.array(lowest), thresholds)
    return FirstErrors(
        with_error=named / len(own) if own else np.full(len(thresholds), np.nan),
        without_error=passed / len(lowest) if lowest else np.full(len(thresholds), np.nan),
    )


def mean_first_error_f1(solutions: Sequence[ScoredSolution], thresholds: np.ndarray) -> np.ndarray:
    """ProcessBench's headline (T,): the mean over subsets of the first-error F1; NaN if no subset has one."""
    values = np.array([first_errors(members, thresholds).f1 for members in by_source(solutions).values()])
    values = values[~np.isnan(values).any(axis=1)]
    return values.mean(axis=0) if len(values) else np.full(len(thresholds), np.nan)


def brier(steps: LabelledSteps) -> float:
    """Mean squared difference between a step's score and 1 (right) or 0 (wrong)."""
    return float(np.mean((steps.scores - steps.right) ** 2))


def calibration(steps: LabelledSteps) -> Calibration:
    """Scores beside what happened, bin by bin."""
    places = np.minimum((steps.scores * BINS).astype(int), BINS - 1)
    number = np.bincount(places, minlength=BINS)
    return Calibration(
        steps=number,
        score=_mean(np.bincount(places, steps.scores, BINS), number),
        right=_mean(np.bincount(places, steps.right, BINS), number),
    )


def calibration_error(steps: LabelledSteps) -> float:
    """Expected calibration error: |mean score - share of right steps| of each bin, weighted by its number of steps."""
    bins = calibration(steps)
    filled = bins.steps > 0
    return float(np.abs(bins.score - bins.right)[filled] @ bins.steps[filled] / bins.steps.sum())


def _wanted(solutions: Sequence[ScoredSolution], kind: str | None) -> np.ndarray:
    """Of all steps, end to end, which are right or wrong, and of the kind."""
    labels = _end_to_end([solution.labels for solution in solutions])
    wanted = (labels == RIGHT) | (labels == WRONG)
    if kind is not None:
        wanted &= np.array([each == kind for solution in solutions for each in solution.kinds], dtype=bool)
    return wanted


def _end_to_end(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts])


def _at_least(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many scores are at least each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Their quotient; 0 for 0 / 0, NaN where one of them is NaN."""
    return numerator / np.where(denominator == 0, 1, denominator)


def _mean(total: np.ndarray, number: np.ndarray) -> np.ndarray:
    return np.where(number > 0, total, np.nan) / np.maximum(number, 1)
