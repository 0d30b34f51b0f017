"""From an evaluation's records to accuracies with intervals, paired differences, and what the answers cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from rewards.measuring.bootstrap import CONFIDENCE, RESAMPLES, Interval, bootstrap_means, percentile_interval
from rewards.measuring.strategies import WITHOUT_JUDGE, Strategy, accuracy_at, aggregate, rule_of
from rewards.records import Prompt
from rl.evaluating.strategies import Plan, PolicyEvaluator, PromptRecord


@dataclass(frozen=True)
class Point:
    """A strategy with N samples.

    Attributes:
        strategy, judge, n: Which; the judge is empty for a strategy that needs none.
        accuracy: Share of prompts answered right, with its bootstrap interval over prompts.
        tokens: Generated for a prompt, mean; discarded ones count.
        seconds: Wall-clock seconds of sampling and judging a prompt, mean. The pool's are shared out evenly over its
            samples.
    """

    strategy: Strategy
    judge: str
    n: int
    accuracy: Interval
    tokens: float
    seconds: float

    @property
    def name(self) -> str:
        """Strategy and judge."""
        return f"{self.strategy} ({self.judge})" if self.judge else self.strategy


@dataclass(frozen=True)
class StrategyDifference:
    """Accuracy of one point minus that of another over the same prompts; both are places in the report's ``points``."""

    of: int
    against: int
    accuracy: Interval


@dataclass(frozen=True)
class StrategyReport:
    """What an evaluation found.

    Attributes:
        prompts: How many.
        points: Every strategy, with every judge and N.
        differences: Between all points of one N; greedy, which has no N, is compared with all.
    """

    prompts: int
    points: tuple[Point, ...]
    differences: tuple[StrategyDifference, ...]

    def metrics(self) -> dict[str, float]:
        """Accuracies as named scalars for the monitor: ``policy/strategies/STRATEGY/N``; of judges other than ``mprm``
        ``policy/strategies/STRATEGY_JUDGE/N``."""
        named = {
            point: point.strategy if point.judge in ("", "mprm") else f"{point.strategy}_{point.judge}"
            for point in self.points
        }
        return {f"policy/strategies/{name}/{point.n}": point.accuracy.value for point, name in named.items()}

    def difference(self, of: Point, against: Point) -> Interval | None:
        """How much more often one point is right than another; None where they were not compared."""
        places = self.points.index(of), self.points.index(against)
        for entry in self.differences:
            if (entry.of, entry.against) == places:
                return entry.accuracy
            if (entry.against, entry.of) == places:
                return Interval(-entry.accuracy.value, -entry.accuracy.high, -entry.accuracy.low)
        return None

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        results = [
            asdict(point) | {"accuracy": point.accuracy.value} | _bounds(point.accuracy) for point in self.points
        ]
        differences = []
        for entry in self.differences:
            of, against = self.points[entry.of], self.points[entry.against]
            differences.append(
                {"strategy": of.strategy, "judge": of.judge, "n": of.n}
                | {"against": against.strategy, "against_judge": against.judge, "against_n": against.n}
                | {"difference": entry.accuracy.value}
                | _bounds(entry.accuracy)
            )
        return {
            "prompts": self.prompts,
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
            "results": results,
            "differences": differences,
        }


def evaluate_strategies(evaluator: PolicyEvaluator, prompts: Sequence[Prompt]) -> StrategyReport:
    """Sample, judge, search and report, all prompts at once: for an evaluation in the middle of a run."""
    records, seconds = evaluator.evaluate(prompts)
    return make_report(evaluator.plan, list(evaluator.judges), records, seconds)


def make_report(
    plan: Plan, judges: Sequence[str], records: Sequence[PromptRecord], seconds: Mapping[str, float]
) -> StrategyReport:
    """The report on at least one record; ``seconds`` are those of all records, by the names of `PolicyEvaluator`."""
    kinds = list(_kinds(plan, judges))
    right = np.array([[_accuracy(kind, record) for kind in kinds] for record in records])
    tokens = np.array([[_tokens(kind, record) for kind in kinds] for record in records]).mean(0)
    means = right.mean(0)
    resampled = bootstrap_means(right, plan.seed)
    points = tuple(
        Point(
            *kind,
            accuracy=percentile_interval(means[place], resampled[:, place]),
            tokens=float(tokens[place]),
            seconds=_seconds(plan, kind, seconds) / len(records),
        )
        for place, kind in enumerate(kinds)
    )
    differences = tuple(
        StrategyDifference(
            of, against, percentile_interval(means[of] - means[against], resampled[:, of] - resampled[:, against])
        )
        for against, of in combinations(range(len(points)), 2)
        if points[of].n == points[against].n or "greedy" in (points[of].strategy, points[against].strategy)
    )
    return StrategyReport(len(records), points, differences)


Kind = tuple[Strategy, str, int]


def _kinds(plan: Plan, judges: Sequence[str]) -> Iterator[Kind]:
    for strategy in plan.strategies:
        for judge in [""] if strategy in WITHOUT_JUDGE else judges:
            for n in (1,) if strategy == "greedy" else plan.n:
                yield strategy, judge, n


def _accuracy(kind: Kind, record: PromptRecord) -> float:
    """The share of right answers that a strategy gives to a prompt."""
    strategy, judge, n = kind
    if strategy == "greedy":
        return float(record.greedy is not None and record.greedy.right)
    if strategy == "guided_greedy":
        return float(record.guided[judge][n].right)
    scores: list[float] = []
    if strategy == "one_shot":
        scores = record.one_shot[judge]
    elif strategy not in WITHOUT_JUDGE:
        scores = [aggregate(steps, rule_of(strategy)) for steps in record.step_scores[judge]]
    right, answers = [sample.right for sample in record.pool], [sample.answer for sample in record.pool]
    return accuracy_at(n, strategy, right, answers, scores)


def _tokens(kind: Kind, record: PromptRecord) -> float:
    strategy, judge, n = kind
    if strategy == "greedy":
        return record.greedy.tokens if record.greedy else 0
    if strategy == "guided_greedy":
        return record.guided[judge][n].tokens
    return n * float(np.mean([sample.tokens for sample in record.pool]))


def _seconds(plan: Plan, kind: Kind, seconds: Mapping[str, float]) -> float:
    strategy, judge, n = kind
    if strategy == "greedy":
        return seconds["greedy"]
    if strategy == "guided_greedy":
        return seconds[f"guided {judge} {n}"]
    judging = f"one_shot {judge}" if strategy == "one_shot" else f"steps {judge}"
    return (seconds["pool"] + (0.0 if strategy in WITHOUT_JUDGE else seconds[judging])) * n / plan.pool


def _bounds(interval: Interval) -> dict[str, float]:
    return {"low": interval.low, "high": interval.high}
