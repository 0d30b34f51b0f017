"""Labels from two witnesses: Monte-Carlo counts and a judge's verdicts, joined by a rule (VL-PRM, arXiv 2509.23250).

A step's Monte-Carlo label is right if more than a share ``threshold`` of its continuations was. Where the two agree,
the counts stay. Where they do not, with k of n continuations right:

    rule         counts say right, judge wrong   counts say wrong, judge right
    monte_carlo  k of n                          k of n
    judge        0 of n                          n of n
    negative     0 of n                          k of n
    positive     k of n                          n of n
    drop         0 of 0, missing                 0 of 0, missing

``drop`` is the consensus filter of Qwen's process reward models (arXiv 2501.07301).

A step without a verdict keeps its counts. A step with a verdict and no continuations takes the verdict for ``fill``
continuations that all say the same, or stays missing where that is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rewards.process_model.labels import hard
from rewards.records import StepCounts

Rule = Literal["monte_carlo", "judge", "negative", "positive", "drop"]


@dataclass(frozen=True)
class HybridRule:
    """Who decides where counts and judge disagree.

    Attributes:
        name: See the table above.
        kinds: The kinds of steps that the judge has a say in; the verdicts on others are compared and not used.
        fill: Continuations that a verdict stands for where there are none.
        threshold: The share of right continuations above which a step counts as right.
    """

    name: Rule = "drop"
    kinds: tuple[str, ...] = ("perception", "reasoning", "")
    fill: int = 0
    threshold: float = 0.0


@dataclass(frozen=True)
class Agreement:
    """How often counts and judge said the same, over the steps on which both said something.

    Attributes:
        compared: Such steps of each kind that occurs.
        agreed: Those on which they agreed, likewise.
    """

    compared: dict[str, int]
    agreed: dict[str, int]

    def share(self, *kinds: str) -> float:
        """Share of the compared steps that they agreed on, of some kinds or else of all; NaN if there are none."""
        names = kinds or tuple(self.compared)
        compared = sum(self.compared.get(name, 0) for name in names)
        return sum(self.agreed.get(name, 0) for name in names) / compared if compared else float("nan")


def hybrid_labels(
    counts: Sequence[StepCounts],
    verdicts: Sequence[np.ndarray],
    kinds: Sequence[Sequence[str]],
    rule: HybridRule,
) -> tuple[list[StepCounts], Agreement]:
    """Join the witnesses of a batch of rollouts; all three of one length, each entry with K values.

    ``verdicts`` are 1 right, 0 wrong, NaN unknown; see `rewards.annotation.verdicts.step_verdicts`.
    """
    compared: Counter[str] = Counter()
    agreed: Counter[str] = Counter()
    joined = []
    for entry, verdict, kind in zip(counts, verdicts, kinds, strict=True):
        label = hard(entry, rule.threshold)
        for name, one, other in zip(kind, label, verdict, strict=True):
            if not np.isnan(one + other):
                compared[name] += 1
                agreed[name] += int(one == other)
        may_decide = np.isin(np.array(kind, dtype=str), rule.kinds)
        joined.append(_join(entry, label, np.where(may_decide, verdict, np.nan), rule))
    return joined, Agreement(dict(compared), dict(agreed))


def _join(counts: StepCounts, label: np.ndarray, verdict: np.ndarray, rule: HybridRule) -> StepCounts:
    judged_right = (label == 0) & (verdict == 1)
    judged_wrong = (label == 1) & (verdict == 0)
    unlabelled = np.isnan(label) & ~np.isnan(verdict)
    to_wrong = judged_wrong & (rule.name in ("judge", "negative"))
    to_right = judged_right & (rule.name in ("judge", "positive"))
    dropped = (judged_wrong | judged_right) & (rule.name == "drop")

    sampled = np.where(unlabelled, rule.fill, np.where(dropped, 0, counts.sampled))
    correct = np.where(to_right | (unlabelled & (verdict == 1)), sampled, counts.correct)
    correct = np.where(to_wrong | dropped | (unlabelled & (verdict == 0)), 0, correct)
    return replace(counts, correct=correct, sampled=sampled)
