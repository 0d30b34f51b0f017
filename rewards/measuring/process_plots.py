"""Pictures of step scores against people's labels: the ROC curve, and the reliability diagram."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import auc, roc_curve

from rewards.measuring.process_metrics import BINS, LabelledSteps, brier, calibration, calibration_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVE, CHANCE, POINT = "#0072b2", "#8c8c8c", "#d55e00"
DPI = 150


def plot_roc(picture: Path, steps: LabelledSteps, threshold: float, title: str) -> None:
    """Draw the ROC curve of right steps against wrong ones as a PNG, with the point at the threshold.

    Nothing is drawn between the axes where a class is absent.
    """
    figure, axes = _square(title)
    axes.plot([0, 1], [0, 1], color=CHANCE, linestyle="--", linewidth=1, label="chance")
    if 0 < steps.right.sum() < len(steps.right):
        false_positive, true_positive, _ = roc_curve(steps.right, steps.scores)
        axes.plot(
            false_positive,
            true_positive,
            color=CURVE,
            linewidth=2,
            label=f"AUC {auc(false_positive, true_positive):.3f}",
        )
        called = steps.scores >= threshold
        x, y = called[~steps.right].mean(), called[steps.right].mean()
        axes.plot(x, y, "o", color=POINT, markersize=8, label=f"threshold {threshold:.3g}")
    axes.set(
        xlabel="wrong steps called right", ylabel="right steps called right", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01)
    )
    axes.set_aspect("equal")
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(picture, dpi=DPI, format="png")


def plot_reliability(picture: Path, steps: LabelledSteps, title: str) -> None:
    """Draw the share of right steps against the mean score of each bin as a PNG, above how many steps each bin has."""
    from matplotlib.figure import Figure

    bins = calibration(steps)
    filled = bins.steps > 0
    figure = Figure(figsize=(5.4, 6.4), layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    _dress(axes)
    _dress(below)
    figure.suptitle(title, fontsize=12, weight="bold")
    axes.plot([0, 1], [0, 1], color=CHANCE, linestyle="--", linewidth=1, label="calibrated")
    told = f"calibration error {calibration_error(steps):.3f}, Brier {brier(steps):.3f}"
    axes.plot(bins.score[filled], bins.right[filled], "o-", color=CURVE, linewidth=2, label=told)
    axes.set(ylabel="share of right steps", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(loc="upper left", frameon=False)
    below.bar((np.arange(BINS) + 0.5) / BINS, bins.steps, width=0.9 / BINS, color=CURVE)
    below.set(xlabel="score", ylabel="steps")
    figure.savefig(picture, dpi=DPI, format="png")


def _square(title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 5.6), layout="constrained")
    figure.suptitle(title, fontsize=12, weight="bold")
    axes = figure.subplots()
    _dress(axes)
    return figure, axes


def _dress(axes: Axes) -> None:
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
