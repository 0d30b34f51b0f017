"""How well step scores tell right steps from wrong ones, with what the step's position alone would tell set apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score


@dataclass(frozen=True)
class StepDiscrimination:
    """Areas under the ROC curve of step scores against true labels, each 0.5 by chance.

    Attributes:
        within_kind: The headline: the area within each kind of step, averaged over kinds. A kind fixes the step's
            position, so a model that has learned only where errors happen gets 0.5.
        plain: Over all steps at once.
        index_only: The plain area of the baseline that knows nothing but the rate of right steps of the kind.
        by_kind: The area of each kind that has both right and wrong steps.
    """

    within_kind: float
    plain: float
    index_only: float
    by_kind: dict[str, float]


def step_discrimination(scores: ArrayLike, right: ArrayLike, kinds: ArrayLike) -> StepDiscrimination:
    """Compare step scores with true labels; all three of one length. NaN where only one class occurs."""
    score, label, kind = np.asarray(scores, float), np.asarray(right, bool), np.asarray(kinds)
    by_kind: dict[str, float] = {}
    baseline = np.zeros(len(score))
    for name in np.unique(kind):
        members = kind == name
        baseline[members] = label[members].mean()
        if 0 < label[members].sum() < members.sum():
            by_kind[str(name)] = float(roc_auc_score(label[members], score[members]))
    both = 0 < label.sum() < len(label)
    return StepDiscrimination(
        within_kind=float(np.mean(list(by_kind.values()))) if by_kind else float("nan"),
        plain=float(roc_auc_score(label, score)) if both else float("nan"),
        index_only=float(roc_auc_score(label, baseline)) if both else float("nan"),
        by_kind=by_kind,
    )
