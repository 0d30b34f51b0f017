"""A picture of learning curves: each arm beside its baseline, and the difference of the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rl.study.arms import Arm, text_of
from rl.study.comparison import student_interval
from rl.study.findings import Findings
from rl.study.panels import ARM_COLOUR, BASELINE_COLOUR, baseline_text, panels, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 4
CURVE_HEIGHT, DIFFERENCE_HEIGHT = 1.9, 1.1
POINTS = 40
"""Of a curve against what differs between seeds, such as tokens."""


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
