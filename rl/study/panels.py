"""How the pictures of a study look: panels in a grid, two colours that the colour-blind can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewards.whole_file import replacing
from rl.study.arms import short_names, text_of
from rl.study.findings import Findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
ARM_COLOUR, BASELINE_COLOUR, GRID = "#0072b2", "#8c8c8c", "#e6e6e6"
PANEL_WIDTH, LEAST_WIDTH = 2.9, 6.0


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
