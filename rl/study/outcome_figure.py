"""A picture of one outcome: how far each arm is from its baseline."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rewards.measuring.bootstrap import Interval
from rl.study.arms import Arm, text_of
from rl.study.comparison import student_interval
from rl.study.findings import Findings
from rl.study.panels import ARM_COLOUR, BASELINE_COLOUR, baseline_text, levels_text, panels, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_HEIGHT, LEAST_HEIGHT = 0.27, 1.0


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
