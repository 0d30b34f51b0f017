"""The curves of a report: what each run measured, in points, beside what had been spent until then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from rl.instruments.report.questions import QUESTIONS, Against, Chart
from rl.instruments.report.runs import Run, rounded

MOST_POINTS = 300

Point = tuple[float, float, float, float]
"""Policy step; label tokens and minutes spent up to there; the value measured."""


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        run: Whose it is, by its place in the report.
        metric: Which of the chart's metrics it is, by its place there.
        label: What it is called beside the others of its run.
        points: In order.
        interval: The bounds of each point's value; empty where they were not measured.
    """

    run: int
    metric: int
    label: str
    points: list[Point]
    interval: list[tuple[float, float]]


@dataclass(frozen=True)
class DrawnChart:
    """A chart with its curves; what else it holds is as in `rl.instruments.report.questions.Chart`."""

    title: str
    reading: str
    against: Against | None
    lines: list[Line]


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question, with the charts of which at least one run has measured something."""

    name: str
    title: str
    reading: str
    charts: list[DrawnChart]


def answer_questions(runs: Sequence[Run]) -> list[AnsweredQuestion]:
    """The curves of all runs, by question. A line of more than `MOST_POINTS` measurements is averaged down to them."""
    spent = [_Spent(run) for run in runs]
    answered = []
    for question in QUESTIONS:
        charts = [chart for asked in question.charts for chart in _expanded(asked, runs)]
        drawn = [DrawnChart(chart.title, chart.reading, chart.against, _lines(chart, runs, spent)) for chart in charts]
        measured = [chart for chart in drawn if chart.lines]
        answered.append(AnsweredQuestion(question.name, question.title, question.reading, measured))
    return answered


class _Spent:
    """What a run had spent after each of its policy steps."""

    def __init__(self, run: Run) -> None:
        steps = {int(row["step"]): row for row in run.rows if "perf/step_seconds" in row}
        self._tokens = _sums(steps, "annotation/tokens")
        self._minutes = {step: seconds / 60 for step, seconds in _sums(steps, "perf/step_seconds").items()}

    def point(self, step: int, value: float) -> Point:
        """A measurement, placed."""
        tokens, minutes = self._tokens.get(step, 0.0), self._minutes.get(step, 0.0)
        return step, rounded(tokens), rounded(minutes), rounded(value)


def _sums(rows: dict[int, dict[str, float]], metric: str) -> dict[int, float]:
    return dict(zip(rows, accumulate(row.get(metric, 0.0) for row in rows.values()), strict=True))


def _lines(chart: Chart, runs: Sequence[Run], spent: Sequence[_Spent]) -> list[Line]:
    lines = []
    for place, (run, paid) in enumerate(zip(runs, spent, strict=True)):
        for number, (metric, label) in enumerate(chart.metrics.items()):
            points = [paid.point(step, value) for step, value in thinned(run.measured(metric))]
            if points:
                lines.append(Line(place, number, label, points, [] if number else _interval(chart, run, len(points))))
    return lines


def _interval(chart: Chart, run: Run, points: int) -> list[tuple[float, float]]:
    """The bounds of so many points; none if not all of them have some."""
    if chart.interval is None:
        return []
    low, high = ([rounded(value) for _, value in thinned(run.measured(metric))] for metric in chart.interval)
    return list(zip(low, high, strict=True)) if len(low) == len(high) == points else []


def _expanded(chart: Chart, runs: Sequence[Run]) -> list[Chart]:
    """The chart, with all metrics below a name written out where it asks for them: those of one run in one chart, those
    of several in a chart each. A single one would say nothing new."""
    (first, *_) = chart.metrics
    if not first.endswith("*"):
        return [chart]
    above = first.removesuffix("*")
    names = sorted({name for run in runs for row in run.rows for name in row if name.startswith(above)})
    below = {name: name.removeprefix(above) for name in names}
    if len(below) < 2:
        return []
    if len(runs) == 1:
        return [replace(chart, metrics=below)]
    return [replace(chart, title=f"{chart.title}: {label}", metrics={name: label}) for name, label in below.items()]


def thinned(measured: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `MOST_POINTS` measurements: means of stretches of equal length, each at its last step."""
    if len(measured) <= MOST_POINTS:
        return list(measured)
    stretches = np.array_split(np.array(measured, dtype=float), MOST_POINTS)
    return [(int(stretch[-1, 0]), float(stretch[:, 1].mean())) for stretch in stretches]
