"""What a benchmark says of a process reward model: at which threshold, by source, over all, and by kind of step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from math import isnan
from typing import Any, Literal, TypeVar

import numpy as np

from rewards.measuring.discrimination import step_discrimination
from rewards.measuring.process_benchmark import NEUTRAL, Bench, BenchmarkError, Solution
from rewards.measuring.process_metrics import (
    LabelledSteps,
    brier,
    by_source,
    calibration_error,
    first_errors,
    labelled_steps,
    mean_first_error_f1,
    micro_over_sources,
    problems,
    step_f1,
    step_indices,
)
from rewards.measuring.process_scores import ScoredSolution

Item = TypeVar("Item", Solution, ScoredSolution)

DEFAULT_THRESHOLD = 0.5
HEADLINE: dict[Bench, Callable[[Sequence[ScoredSolution], np.ndarray], np.ndarray]] = {
    "visualprocessbench": micro_over_sources,
    "processbench": mean_first_error_f1,
}
"""What a threshold is chosen for."""


@dataclass(frozen=True)
class Threshold:
    """The score from which on a step is called right, and how it came about.

    Attributes:
        value: The score.
        origin: `default`, `given`, or `tuned` (the best for the headline metric on solutions that are not reported).
        tuned_on: The split that it was chosen on, as it was asked for.
        tuned_solutions: The number of solutions in it.
    """

    value: float = DEFAULT_THRESHOLD
    origin: Literal["default", "given", "tuned"] = "default"
    tuned_on: str | None = None
    tuned_solutions: int = 0

    def told(self) -> str:
        """In words."""
        if self.origin == "tuned":
            part = f"{self.tuned_solutions:,} solutions ({self.tuned_on})"
            return f"{self.value:g}, the best one on {part}, which are not reported"
        return f"{self.value:g}, {'as given' if self.origin == 'given' else 'the default'}"

    def to_json(self) -> dict[str, Any]:
        tuning = {"tuned_on": self.tuned_on, "tuned_solutions": self.tuned_solutions} if self.tuned_on else {}
        return {"threshold": self.value, "threshold_from": self.origin} | tuning


@dataclass(frozen=True)
class StepClasses:
    """F1 of a number of labelled steps: of the right ones, the wrong ones, and the mean of both."""

    macro_f1: float
    f1_positive: float
    f1_negative: float
    steps: int


@dataclass(frozen=True)
class ScoreQuality:
    """What step scores are worth whatever the threshold.

    Attributes:
        auc: Area under the ROC curve; None where steps of one class are absent.
        auc_index_only: The same of a baseline that knows nothing but how often the first step, the second one, and so
            on, are right: what position alone tells.
        auc_weighted: The area among first steps, among second ones, and so on, averaged by how many are wrong: 0.5 for
            the baseline.
        auc_standard_error: Of ``auc_weighted``, over draws of problems.
        auc_within_index: The same average with all indices alike.
        brier, calibration_error: See `rewards.measuring.process_metrics`.
    """

    auc: float | None
    auc_index_only: float | None
    auc_weighted: float | None
    auc_standard_error: float | None
    auc_within_index: float | None
    brier: float
    calibration_error: float


@dataclass(frozen=True)
class LabelledStepsReport:
    """VisualProcessBench's metrics, and more.

    Attributes:
        threshold: At which scores count as right.
        per_source: By the source's name.
        micro_over_sources: Their macro-F1, averaged with the number of steps: the published "overall micro-F1".
        pooled: All steps as if of one source.
        quality: Of all steps.
        per_kind: By kind of step, where steps have one, with what the scores of that kind are worth.
    """

    threshold: Threshold
    per_source: dict[str, StepClasses]
    micro_over_sources: float
    pooled: StepClasses
    quality: ScoreQuality
    per_kind: dict[str, tuple[StepClasses, ScoreQuality]]

    def to_json(self) -> dict[str, Any]:
        overall = {
            "micro_over_sources": self.micro_over_sources,
            "macro_f1_pooled": self.pooled.macro_f1,
            "f1_positive": self.pooled.f1_positive,
            "f1_negative": self.pooled.f1_negative,
            "total_steps": self.pooled.steps,
        }
        content = {
            "per_source": {name: asdict(classes) for name, classes in self.per_source.items()},
            "overall": overall | asdict(self.quality) | self.threshold.to_json(),
        }
        kinds = {name: asdict(classes) | asdict(quality) for name, (classes, quality) in self.per_kind.items()}
        return content | ({"per_kind": kinds} if kinds else {})

    def metrics(self) -> dict[str, float]:
        """As named scalars for the monitor."""
        values = {"mprm/bench_macro_f1": self.micro_over_sources}
        values |= {f"mprm/bench_macro_f1/{name}": classes.macro_f1 for name, classes in self.per_source.items()}
        values |= {f"mprm/bench_macro_f1/{kind}": classes.macro_f1 for kind, (classes, _) in self.per_kind.items()}
        return values | _quality_metrics(self.quality)


@dataclass(frozen=True)
class FirstErrorClasses:
    """The first-error metric of a subset; None where it has no solution of the kind.

    Attributes:
        f1: Harmonic mean of the two accuracies.
        accuracy_with_error: Share of the solutions with an error whose first wrong step was named.
        accuracy_without_error: Share of the others in which no step was called wrong.
        with_error, without_error: How many there are of either.
    """

    f1: float | None
    accuracy_with_error: float | None
    accuracy_without_error: float | None
    with_error: int
    without_error: int


@dataclass(frozen=True)
class FirstErrorReport:
    """ProcessBench's metrics, and more.

    Attributes:
        threshold: Below which the first step is taken for the first error.
        per_source: By the subset's name.
        first_error_f1: Mean of their F1; None if no subset has one.
        quality: Of all steps up to the first error.
        steps: How many those are.
    """

    threshold: Threshold
    per_source: dict[str, FirstErrorClasses]
    first_error_f1: float | None
    quality: ScoreQuality
    steps: int

    def to_json(self) -> dict[str, Any]:
        subsets = self.per_source.values()
        overall = {
            "first_error_f1": self.first_error_f1,
            "total_solutions": sum(subset.with_error + subset.without_error for subset in subsets),
            "total_steps": self.steps,
        }
        return {
            "per_source": {name: asdict(classes) for name, classes in self.per_source.items()},
            "overall": overall | asdict(self.quality) | self.threshold.to_json(),
        }

    def metrics(self) -> dict[str, float]:
        """As named scalars for the monitor."""
        values = {"": self.first_error_f1} | {f"/{name}": subset.f1 for name, subset in self.per_source.items()}
        named = {f"mprm/bench_first_error_f1{name}": value for name, value in values.items() if value is not None}
        return named | _quality_metrics(self.quality)


ProcessReport = LabelledStepsReport | FirstErrorReport


def make_report(bench: Bench, solutions: Sequence[ScoredSolution], threshold: Threshold) -> ProcessReport:
    """All metrics of a benchmark at a threshold.

    Raises:
        BenchmarkError: No step is right or wrong.
    """
    steps = labelled_steps(solutions)
    if not len(steps.scores):
        raise BenchmarkError("no step is labelled 1 or -1: there is nothing to evaluate")
    at = np.array([threshold.value])
    if bench == "processbench":
        return FirstErrorReport(
            threshold=threshold,
            per_source={name: _first_error(members, at) for name, members in by_source(solutions).items()},
            first_error_f1=_known(mean_first_error_f1(solutions, at)[0]),
            quality=_quality(solutions),
            steps=len(steps.scores),
        )
    sources = {name: labelled_steps(members) for name, members in by_source(solutions).items()}
    kinds = sorted({kind for solution in solutions for kind in solution.kinds} - {""})
    by_kind = {kind: labelled_steps(solutions, kind) for kind in kinds}
    return LabelledStepsReport(
        threshold=threshold,
        per_source={name: _classes(steps, at) for name, steps in sources.items() if len(steps.scores)},
        micro_over_sources=float(micro_over_sources(solutions, at)[0]),
        pooled=_classes(steps, at),
        quality=_quality(solutions),
        per_kind={
            kind: (_classes(steps, at), _quality(solutions, kind))
            for kind, steps in by_kind.items()
            if len(steps.scores)
        },
    )


def tune(bench: Bench, solutions: Sequence[ScoredSolution], tune_on: str) -> tuple[Threshold, Sequence[ScoredSolution]]:
    """Choose the threshold that is best for the headline metric on a part; gives it with the other solutions.

    The candidates are the part's own scores, and 1; among equally good ones that nearest to 0.5 is taken.

    Args:
        bench: Whose headline metric.
        solutions: All of them.
        tune_on: Which part; see `split`.

    Raises:
        BenchmarkError: See `split`; or no threshold can be said to be the best.
    """
    part, rest = split(solutions, tune_on)
    candidates = np.unique([*labelled_steps(part).scores, 1.0])
    values = HEADLINE[bench](part, candidates)
    if np.isnan(values).all():
        raise BenchmarkError(f"--tune-on {tune_on} has no subset with both solutions with and without an error")
    best = candidates[values >= values.max()]
    value = float(best[np.abs(best - DEFAULT_THRESHOLD).argmin()])
    return Threshold(value, "tuned", tune_on, len(part)), rest


def split(solutions: Sequence[Item], tune_on: str) -> tuple[list[Item], list[Item]]:
    """The part to choose a threshold on, and the rest.

    Args:
        solutions: All of them, scored or not.
        tune_on: ``source=NAME``, or a share above 0 and below 1 of the problems: those whose hash is low. All solutions
            of a problem are on one side.

    Raises:
        BenchmarkError: It is neither, or one of the two parts has no labelled step.
    """
    key, equals, name = tune_on.partition("=")
    by_name = bool(equals) and key == "source"
    share = 0.0 if by_name else _share(tune_on)
    parts: tuple[list[Item], list[Item]] = [], []
    for solution in solutions:
        chosen = solution.source == name if by_name else _position(solution.problem) < share
        parts[0 if chosen else 1].append(solution)
    for told, part in zip(("holds", "leaves"), parts, strict=True):
        if not any(label != NEUTRAL for solution in part for label in solution.labels):
            sources = ", ".join(sorted({solution.source for solution in solutions}))
            raise BenchmarkError(
                f"--tune-on {tune_on} {told} no labelled step of {len(solutions):,} solutions; sources are {sources}"
            )
    return parts


def _share(tune_on: str) -> float:
    try:
        share = float(tune_on)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise BenchmarkError(f"--tune-on {tune_on}: allowed is a share above 0 and below 1, or source=NAME")
    return share


def _position(problem: str) -> float:
    """Where a problem lies in [0, 1), by a hash."""
    return int.from_bytes(blake2b(problem.encode(), digest_size=6).digest(), "big") / 2**48


def _classes(steps: LabelledSteps, at: np.ndarray) -> StepClasses:
    f1 = step_f1(steps, at)
    return StepClasses(float(f1.macro[0]), float(f1.positive[0]), float(f1.negative[0]), len(steps.scores))


def _quality(solutions: Sequence[ScoredSolution], kind: str | None = None) -> ScoreQuality:
    steps = labelled_steps(solutions, kind)
    areas = step_discrimination(steps.scores, steps.right, step_indices(solutions, kind), problems(solutions, kind))
    return ScoreQuality(
        auc=_known(areas.plain),
        auc_index_only=_known(areas.index_only),
        auc_weighted=_known(areas.weighted),
        auc_standard_error=_known(areas.standard_error),
        auc_within_index=_known(areas.within_kind),
        brier=brier(steps),
        calibration_error=calibration_error(steps),
    )


def _first_error(solutions: Sequence[ScoredSolution], at: np.ndarray) -> FirstErrorClasses:
    found = first_errors(solutions, at)
    with_error = sum(bool((solution.labels < 0).any()) for solution in solutions)
    return FirstErrorClasses(
        f1=_known(found.f1[0]),
        accuracy_with_error=_known(found.with_error[0]),
        accuracy_without_error=_known(found.without_error[0]),
        with_error=with_error,
        without_error=len(solutions) - with_error,
    )


def _known(value: float) -> float | None:
    return None if isnan(value) else float(value)


def _quality_metrics(quality: ScoreQuality) -> dict[str, float]:
    named = {f"mprm/bench_{name}": value for name, value in asdict(quality).items()}
    return {name: value for name, value in named.items() if value is not None}
