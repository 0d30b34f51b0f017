"""What the order of steps is good for: most of what is worth knowing about a rollout is where its first error is.

    ignore   Every step is labelled, all at once.
    stop     Step by step; the steps after a first one without any success are missing (VisualPRM's early stop).
    search   Binary search for that first error. It assumes that errors are never repaired: a success at a step speaks
             for all steps before it, a failure for all after it. Of K steps about log2(K + 1) are sampled.

A step is *positive* once a continuation (or an outcome that counts) was right, and *negative* once it is settled
without. A step none of whose continuations finished is neither, and is passed over.

What the steps count that ``search`` never sampled: one before a positive step takes over the counts of the nearest
positive step behind it, whose successes came through it as well (its own rate is seldom lower, so this errs on the low
side); one after the first error is missing, as with ``stop``. A step that was sampled keeps its own counts.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from rewards.annotation.evidence import Evidence

FirstError = Literal["ignore", "stop", "search"]


def may_ask(evidence: Evidence, wanted: np.ndarray, first_error: FirstError) -> np.ndarray:
    """Which of the steps that a policy wants more of are to be asked for now (S,).

    Args:
        evidence: So far.
        wanted: What the policy asks for (S,); 0 for settled steps.
        first_error: One of the three ways.
    """
    unsettled = wanted > 0
    if first_error == "ignore":
        return unsettled
    last_positive, first_negative = _bounds(evidence, wanted, first_error)
    between = unsettled & (evidence.position > last_positive) & (evidence.position < first_negative)
    return _nth_of_each(evidence, between, middle=first_error == "search")


def labels(evidence: Evidence, wanted: np.ndarray, first_error: FirstError) -> tuple[np.ndarray, np.ndarray]:
    """What steps count in the end: right and finished samples (S,), both 0 where the label is missing."""
    settled = wanted == 0
    right, finished = evidence.right, evidence.finished
    if first_error == "ignore":
        return np.where(settled, right, 0), np.where(settled, finished, 0)
    last_positive, first_negative = _bounds(evidence, wanted, first_error)
    own = settled & (evidence.position <= first_negative)
    source = np.arange(len(right))
    if first_error == "search":
        positive = settled & (right > 0)
        behind = np.where(positive, source, len(right) - 1)
        nearest = np.minimum.accumulate(behind[::-1])[::-1]
        inherits = (evidence.position < last_positive) & ~(settled & (evidence.sampled > 0))
        source, own = np.where(inherits, nearest, source), own | inherits
    return np.where(own, right[source], 0), np.where(own, finished[source], 0)


def _bounds(evidence: Evidence, wanted: np.ndarray, first_error: FirstError) -> tuple[np.ndarray, np.ndarray]:
    """For each step, where its rollout's last positive and first negative step are (S,): -1 and K if there is none.

    ``stop`` takes steps one by one, so that no success lets it pass over a step. ``search`` looks for the first
    negative step after the last positive one.
    """
    rollout, position = evidence.rollout, evidence.position
    last_positive = np.full(len(evidence.lengths), -1)
    if first_error == "search":
        positive = (wanted == 0) & (evidence.right > 0)
        np.maximum.at(last_positive, rollout[positive], position[positive])
    negative = (wanted == 0) & (evidence.right == 0) & (evidence.finished > 0)
    negative &= position > last_positive[rollout]
    first_negative = evidence.lengths.copy()
    np.minimum.at(first_negative, rollout[negative], position[negative])
    return last_positive[rollout], first_negative[rollout]


def _nth_of_each(evidence: Evidence, among: np.ndarray, middle: bool) -> np.ndarray:
    """Of each rollout's steps in ``among`` the first, or the middle one (S,)."""
    rollout = evidence.rollout
    totals = np.bincount(rollout, weights=among, minlength=len(evidence.lengths)).astype(np.int64)
    before = np.cumsum(totals) - totals
    place = np.cumsum(among) - 1 - before[rollout]
    target = (totals - 1) // 2 if middle else np.zeros_like(totals)
    return among & (place == target[rollout])
