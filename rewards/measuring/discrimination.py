"""How well step scores tell right steps from wrong ones, with what the step's position alone would tell set apart."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


@dataclass(frozen=True)
class StepDiscrimination:
    """Areas under the ROC curve of step scores against true labels, each 0.5 by chance.

    Attributes:
        weighted: The headline: the area within each kind of step, averaged over kinds by their wrong steps, so that a
            kind that is nearly always right counts for as little as it can tell. A kind fixes the step's position, so
            a model that has learned only where errors happen gets 0.5.
        standard_error: Of ``weighted``, over draws of groups; NaN with fewer than two.
        within_kind: The same average with all kinds alike.
        plain: Over all steps at once.
        index_only: The plain area of the baseline that knows nothing but the rate of right steps of the kind.
        by_kind: The area of each kind that has both right and wrong steps.
    """

    weighted: float
    standard_error: float
    within_kind: float
    plain: float
    index_only: float
    by_kind: dict[str, float]


def step_discrimination(
    scores: ArrayLike, right: ArrayLike, kinds: ArrayLike, groups: ArrayLike | None = None
) -> StepDiscrimination:
    """Compare step scores with true labels. NaN where only one class occurs.

    Args:
        scores: What a reward model says of each step (S,).
        right: Whether it is right (S,).
        kinds: What it is compared within (S,).
        groups: What was drawn together (S,), for example the step's prompt; each step by itself unless given.
    """
    score, label, kind = np.asarray(scores, float), np.asarray(right, bool), np.asarray(kinds, str)
    by_kind: dict[str, float] = {}
    wrong: dict[str, int] = {}
    baseline, influence = np.zeros(len(score)), np.zeros(len(score))
    for name in np.unique(kind):
        members = kind == name
        baseline[members] = label[members].mean()
        if _both(label[members]):
            placed = _placements(score[members], label[members])
            by_kind[str(name)] = area = float(placed[label[members]].mean())
            wrong[str(name)] = int((~label[members]).sum())
            sizes = np.where(label[members], label[members].sum(), wrong[str(name)])
            influence[members] = wrong[str(name)] * (placed - area) / sizes
    errors = sum(wrong.values())
    weighted = sum(wrong[name] * area for name, area in by_kind.items()) / errors if errors else nan
    for name, area in by_kind.items():
        influence[(kind == name) & ~label] += area - weighted  # each error makes its kind count for more
    return StepDiscrimination(
        weighted=weighted,
        standard_error=_standard_error(influence / errors, groups) if errors else nan,
        within_kind=float(np.mean(list(by_kind.values()))) if by_kind else nan,
        plain=float(_placements(score, label)[label].mean()) if _both(label) else nan,
        index_only=float(_placements(baseline, label)[label].mean()) if _both(label) else nan,
        by_kind=by_kind,
    )


def _both(label: np.ndarray) -> bool:
    return bool(label.any() and not label.all())


def _placements(score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The share of the other class's steps (S,) that each is on the proper side of, ties half; means are the area."""
    ranks, others = rankdata(score), np.zeros(len(score))
    for own in (label, ~label):
        others[own] = (ranks[own] - rankdata(score[own])) / (~own).sum()
    return np.where(label, others, 1 - others)


def _standard_error(influence: np.ndarray, groups: ArrayLike | None) -> float:
    """The root of the sum of squares of what each group moved the area by: DeLong (1988), for steps that were drawn in
    clusters (Obuchowski, 1997)."""
    members = np.arange(len(influence)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    moved = np.bincount(members, influence)
    return float(np.sqrt((moved**2).sum() * len(moved) / (len(moved) - 1))) if len(moved) > 1 else nan
