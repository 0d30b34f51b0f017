"""Pictures of a study: learning curves beside their baseline, and outcomes with their differences."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rewards.files.whole_file import replacing
from rewards.measuring.bootstrap import Interval
from rl.instruments.study.arms import Arm, short_names, text_of
from rl.instruments.study.comparison import student_interval
from rl.instruments.study.findings import Findings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
CURVE_HEIGHT, DIFFERENCE_HEIGHT = 1.9, 1.1
POINTS = 40
"""Of a curve against what differs between seeds, such as tokens."""
ROW_HEIGHT, LEAST_HEIGHT = 0.27, 1.0
DPI = 150
ARM_COLOUR, BASELINE_COLOUR, GRID = "#0072b2", "#8c8c8c", "#e6e6e6"
PANEL_WIDTH, LEAST_WIDTH = 2.9, 6.0


@dataclass(frozen=True)
class Curves:
    """The curves of one arm's seeds, at shared points, and its baseline's of the same seeds.

    Attributes:
        x: The points (P,).
        arm: (S, P).
        baseline: (S, P); null if there is none.
    """

    x: np.ndarray
    arm: np.ndarray
    baseline: np.ndarray | None


def draw_curves(findings: Findings, metric: str, against: str, arms: Sequence[Arm], title: str, picture: Path) -> bool:
    """Draw a panel an arm: its mean over seeds in blue with its t interval, its baseline's in grey; and below it the
    paired difference of the two with its t interval. Gives whether there was anything to draw."""
    found = {arm.name: curves for arm in arms if (curves := curves_of(findings, arm, metric, against))}
    shown = [arm for arm in arms if arm.name in found]
    if not shown:
        return False
    compared = any(curves.baseline is not None for curves in found.values())
    columns, parts = min(COLUMNS, len(shown)), 1 + compared
    rows = -(-len(shown) // columns)
    heights = [CURVE_HEIGHT, DIFFERENCE_HEIGHT][:parts] * rows
    figure, axes = panels(columns, heights, shared_y="row")
    for panel in axes.flat:
        panel.set_visible(False)
    for place, arm in enumerate(shown):
        row, column = parts * (place // columns), place % columns
        _draw(axes[row : row + parts, column], found[arm.name])
        axes[row][column].set_title(text_of(next(iter(arm.levels.values()))), loc="left", fontsize=9, color=ARM_COLOUR)
    for column in axes.T:
        [panel for panel in column if panel.get_visible()][-1].tick_params(labelbottom=True)
    for part in range(parts):
        _share_heights([panel for panel in axes[part::parts].flat if panel.get_visible()])
    figure.supxlabel(against, fontsize=9)
    legend = f"blue: the arm, grey: {baseline_text(findings)}; below: their paired difference; " if compared else ""
    save(figure, picture, f"{title}\n{legend}mean over seeds, 95 % t interval")
    return True


def curves_of(findings: Findings, arm: Arm, metric: str, against: str) -> Curves | None:
    """The curves of an arm and its baseline, of the seeds that both have if they share any; None if there are none."""
    own = _by_seed(findings, arm.name, metric, against)
    other = _by_seed(findings, arm.baseline, metric, against) if arm.baseline else {}
    paired = [seed for seed in own if seed in other]
    seeds = paired or list(own)
    if not seeds:
        return None
    x = _shared_points([own[seed] for seed in seeds] + [other[seed] for seed in paired])
    baseline = np.array([np.interp(x, *other[seed]) for seed in paired]) if paired else None
    return Curves(x, np.array([np.interp(x, *own[seed]) for seed in seeds]), baseline)


def _draw(parts: Sequence[Axes], curves: Curves) -> None:
    upper, *lower = parts
    upper.set_visible(True)
    if curves.baseline is not None:
        upper.plot(curves.x, curves.baseline.mean(axis=0), color=BASELINE_COLOUR, linewidth=1.6)
    _draw_band(upper, curves.x, curves.arm)
    for panel in lower if curves.baseline is not None else ():
        panel.set_visible(True)
        panel.axhline(0, color=BASELINE_COLOUR, linewidth=1.6)
        _draw_band(panel, curves.x, curves.arm - curves.baseline)


def _draw_band(panel: Axes, x: np.ndarray, values: np.ndarray) -> None:
    intervals = [student_interval(column) for column in values.T]
    low, high = [interval.low for interval in intervals], [interval.high for interval in intervals]
    panel.fill_between(x, low, high, color=ARM_COLOUR, alpha=0.2, linewidth=0)
    panel.plot(x, values.mean(axis=0), color=ARM_COLOUR, linewidth=1.8)


def _share_heights(shown: Sequence[Axes]) -> None:
    """Give panels of several rows one scale, so that they can be compared."""
    bounds = [panel.get_ylim() for panel in shown]
    for panel in shown:
        panel.set_ylim(min(low for low, _ in bounds), max(high for _, high in bounds))


def _by_seed(findings: Findings, arm: str, metric: str, against: str) -> Mapping[int, np.ndarray]:
    """Of each seed x and y (2, P), where both were measured."""
    found = {}
    for seed, cell in findings.cells.get(arm, {}).items():
        rows = [row for row in cell.result.curve if metric in row and against in row]
        if rows:
            found[seed] = np.array([[row[name] for row in rows] for name in (against, metric)])
    return found


def _shared_points(curves: Sequence[np.ndarray]) -> np.ndarray:
    """Where curves can be compared: their own points if those are the same, else points that all of them span."""
    xs = [curve[0] for curve in curves]
    if all(np.array_equal(x, xs[0]) for x in xs):
        return xs[0]
    return np.linspace(max(x.min() for x in xs), min(x.max() for x in xs), POINTS)


def draw_outcome(findings: Findings, outcome: str, picture: Path) -> bool:
    """Draw an outcome's paired differences to the baseline, or where there is none its means, with t intervals.

    The levels of the first factor are rows of a panel; those of the second are panels beside one another, and the
    combinations of all others panels below one another. What nothing is known of is left out. Gives whether there was
    anything to draw.
    """
    compared = any(findings.differences(arm, outcome) for arm in findings.arms.values())
    found = {arm.name: _interval(findings, arm, outcome, compared) for arm in findings.arms.values()}
    shown = [arm for arm in findings.arms.values() if found[arm.name] is not None]
    if not shown:
        return False
    first, *others = findings.study.factors
    rows = [level for level in findings.study.factors[first] if any(arm.levels[first] == level for arm in shown)]
    beside, below = _combinations(findings, others[:1], shown), _combinations(findings, others[1:], shown)
    height = max(LEAST_HEIGHT, 0.5 + ROW_HEIGHT * len(rows))
    figure, axes = panels(len(beside), [height] * len(below), shared_y=True)
    for (row, under), (column, next_to) in itertools.product(enumerate(below), enumerate(beside)):
        panel, fixed = axes[row][column], next_to | under
        intervals = [_of_level(findings, found, {**fixed, first: level}) for level in rows]
        if not any(intervals):  # the study may leave a combination out
            panel.text(0.5, 0.5, "not run", transform=panel.transAxes, ha="center", va="center", color=BASELINE_COLOUR)
        _draw_rows(panel, intervals)
        panel.set_yticks(range(len(rows)), [text_of(level) for level in rows])
        panel.set_ylim(len(rows) - 0.5, -0.5)
        panel.set_title(levels_text(findings, fixed), loc="left", fontsize=9)
        if compared:
            panel.axvline(0, color=BASELINE_COLOUR, linewidth=1)
    what = f"{outcome} minus that of {baseline_text(findings)}, paired" if compared else outcome
    save(figure, picture, f"{what}: mean over seeds, 95 % t interval")
    return True


def _draw_rows(panel: Axes, intervals: Sequence[Interval | None]) -> None:
    for place, interval in enumerate(intervals):
        if interval is not None:
            panel.plot([interval.low, interval.high], [place, place], color=ARM_COLOUR, linewidth=1.6)
            panel.plot(interval.value, place, "o", color=ARM_COLOUR, markersize=5)


def _interval(findings: Findings, arm: Arm, outcome: str, compared: bool) -> Interval | None:
    by_seed = findings.differences(arm, outcome) if compared else findings.outcome(arm.name, outcome)
    return student_interval(np.array(list(by_seed.values()))) if by_seed else None


def _of_level(findings: Findings, found: Mapping[str, Interval | None], levels: dict[str, Any]) -> Interval | None:
    """All factors have a level, so that there is one such arm, or none."""
    return next((found[arm.name] for arm in findings.arms_with(levels)), None)


def _combinations(findings: Findings, factors: Sequence[str], shown: Sequence[Arm]) -> list[dict[str, Any]]:
    """The combinations of some factors' levels that shown arms have."""
    every = itertools.product(*(findings.study.factors[factor] for factor in factors))
    combinations = [dict(zip(factors, levels, strict=True)) for levels in every]
    return [levels for levels in combinations if any(levels.items() <= arm.levels.items() for arm in shown)]


def panels(columns: int, heights: Sequence[float], shared_y: Any) -> tuple[Figure, Any]:
    """A figure and its axes (rows, columns); ``heights`` are those of the rows, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(LEAST_WIDTH, PANEL_WIDTH * columns), sum(heights) + 0.7), layout="constrained")
    axes = figure.subplots(
        len(heights), columns, squeeze=False, sharex=True, sharey=shared_y, height_ratios=list(heights)
    )
    for panel in axes.flat:
        panel.grid(color=GRID)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    return figure, axes


def save(figure: Figure, picture: Path, title: str) -> None:
    """Write it as a PNG."""
    figure.suptitle(title, fontsize=10, wrap=True)
    picture.parent.mkdir(parents=True, exist_ok=True)
    with replacing(picture) as path:
        figure.savefig(path, dpi=DPI, facecolor="white", format="png")


def levels_text(findings: Findings, levels: dict[str, Any]) -> str:
    """Levels of some factors, for a title."""
    short = short_names(findings.study.factors)
    return ", ".join(f"{short[key]} {text_of(level)}" for key, level in levels.items())


def baseline_text(findings: Findings) -> str:
    """What arms are compared with, in a word or two."""
    baseline = findings.study.baseline
    return ", ".join(map(text_of, baseline.values())) if isinstance(baseline, dict) else str(baseline)
