"""A picture of a selection: what the scores reward, and what was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

CELLS = 50
SMALLEST_DOT, LARGEST_DOT = 6.0, 60.0  # square points: one rollout, and as many as in the fullest cell
LEFT, CHOSEN = "#c4c4c4", "#0072b2"
DPI = 150


@dataclass(frozen=True)
class ScoredRollouts:
    """All scorable rollouts of a file (B,): score, BIS's mixture and reliability (single precision), chosen or not."""

    scores: np.ndarray
    mixture: np.ndarray
    reliability: np.ndarray
    chosen: np.ndarray


def plot_selection(picture: Path, files: Sequence[ScoredRollouts], selector: str, ratio: float) -> None:
    """Draw score against mixture, score against reliability, and the plane of both, as a PNG.

    A dot is a cell of a grid. Its size says how many rollouts fall into it (logarithmic), its colour which share of
    them was chosen: every file has its own threshold, so that with several files a cell can be chosen in part.
    Rollouts whose score is infinite are not shown.
    """
    from matplotlib.figure import Figure

    names = ("scores", "mixture", "reliability", "chosen")
    scores, mixture, reliability, chosen = (np.concatenate([getattr(file, name) for file in files]) for name in names)
    finite = np.isfinite(scores) & np.isfinite(reliability)
    mixtures = ("label mixture  p (1 - p)", mixture[finite])
    reliabilities = ("reliability  R", reliability[finite])
    values = (f"score  ({selector})", scores[finite])

    figure = Figure(figsize=(15, 5.4), layout="constrained")
    title = f"{int(chosen.sum()):,} of {len(chosen):,} rollouts chosen by {selector}, ratio {ratio:g}"
    figure.suptitle(title, fontsize=14, weight="bold")
    fullest = _fullest((mixtures[1], values[1]), (reliabilities[1], values[1]), (mixtures[1], reliabilities[1]))
    panels = figure.subplots(1, 3)
    for axes, x, y in zip(panels, (mixtures, reliabilities, mixtures), (values, values, reliabilities), strict=True):
        dots = _draw(axes, x[1], y[1], chosen[finite], fullest)
        axes.set(xlabel=x[0], ylabel=y[0], title=f"{y[0].split('  ')[0]} against {x[0].split('  ')[0]}")
    figure.colorbar(dots, ax=panels, label="share chosen", pad=0.01)
    steps = sorted({1, round(fullest**0.5), fullest})
    handles = [panels[0].scatter([], [], s=_size(np.array([n]), fullest), color="0.5") for n in steps]
    names_of_sizes = [f"{n:,} rollout{'s' if n > 1 else ''}" for n in steps]
    figure.legend(handles, names_of_sizes, loc="outside lower center", ncols=len(steps), frameon=False)
    figure.savefig(picture, dpi=DPI, format="png")


def _draw(axes: Axes, x: np.ndarray, y: np.ndarray, chosen: np.ndarray, fullest: int) -> PathCollection:
    from matplotlib.colors import LinearSegmentedColormap

    edges = [_edges(x), _edges(y)]
    number, *_ = np.histogram2d(x, y, bins=edges)
    picked, *_ = np.histogram2d(x[chosen], y[chosen], bins=edges)
    column, row = np.nonzero(number)
    share = picked[column, row] / number[column, row]
    order = np.argsort(share, kind="stable")  # chosen cells on top
    across, up = ((edge[1:] + edge[:-1]) / 2 for edge in edges)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes.scatter(
        across[column[order]],
        up[row[order]],
        s=_size(number[column, row][order], fullest),
        c=share[order],
        cmap=LinearSegmentedColormap.from_list("share", [LEFT, CHOSEN]),
        vmin=0,
        vmax=1,
        linewidths=0,
    )


def _fullest(*planes: tuple[np.ndarray, np.ndarray]) -> int:
    """The most rollouts in any cell of any panel; at least 1."""
    most = [np.histogram2d(x, y, bins=[_edges(x), _edges(y)])[0].max() for x, y in planes]
    return max(1, int(max(most)))


def _size(number: np.ndarray, fullest: int) -> np.ndarray:
    return SMALLEST_DOT + (LARGEST_DOT - SMALLEST_DOT) * np.log(number) / np.log(max(fullest, 2))


def _edges(values: np.ndarray) -> np.ndarray:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = max(1e-6, (high - low) / (2 * CELLS))
    return np.linspace(low - margin, high + margin, CELLS + 1)
