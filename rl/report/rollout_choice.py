"""Which rollouts of a run are worth showing, where not all of them can be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STRETCHES = 10
"""Into so many stretches of equal length a run is cut; each shows as many rollouts as any other."""


def disagreement(scores: Sequence[float], correct: Sequence[float], sampled: Sequence[float]) -> float:
    """The largest difference between a step's score and its share of right continuations; NaN where no step has both.

    Args:
        scores: The MPRM's score of each step (K,), or none at all.
        correct, sampled: Monte-Carlo counts of each step (K,), or none at all.
    """
    differences = [
        abs(score - right / of) for score, right, of in zip(scores, correct, sampled, strict=False) if of > 0
    ]
    return max(differences, default=float("nan"))


def choose(disagreements: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    """Choose rollouts of every stretch of a run: half of them those on which MPRM and Monte-Carlo counts disagree most,
    the others at random, always the same.

    Args:
        disagreements: For each policy step, in order, that of each of its rollouts.
        most: How many to choose, at most.

    Returns:
        For each policy step the chosen rollouts' places, ascending.
    """
    owner = np.repeat(np.arange(len(disagreements)), [len(values) for values in disagreements])
    place = np.concatenate([np.arange(len(values)) for values in disagreements])
    values = np.concatenate(disagreements)
    stretch = owner * min(STRETCHES, len(disagreements)) // len(disagreements)
    members = [np.flatnonzero(stretch == number) for number in range(stretch.max(initial=-1) + 1)]
    random = np.random.default_rng(0)
    chosen = [
        _of_stretch(rows, values[rows], share, random)
        for rows, share in zip(members, fair_shares([len(rows) for rows in members], most), strict=True)
    ]
    taken = np.sort(np.concatenate([np.zeros(0, dtype=int), *chosen]))
    return [place[taken[owner[taken] == number]] for number in range(len(disagreements))]


def fair_shares(sizes: Sequence[int], most: int) -> list[int]:
    """Divide ``most`` among heaps of these sizes: as equally as they allow, what a small one leaves going to others.

    >>> fair_shares([100, 2, 100], 12)
    [5, 2, 5]
    """
    shares, left = [0] * len(sizes), most
    for waiting, heap in enumerate(sorted(range(len(sizes)), key=lambda heap: sizes[heap])):
        shares[heap] = min(sizes[heap], left // (len(sizes) - waiting))
        left -= shares[heap]
    return shares


def _of_stretch(rows: np.ndarray, values: np.ndarray, share: int, random: np.random.Generator) -> np.ndarray:
    by_disagreement = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")
    known = by_disagreement[: np.count_nonzero(~np.isnan(values))]
    most_disputed = known[: (share + 1) // 2]
    others = np.setdiff1d(np.arange(len(rows)), most_disputed)
    return rows[np.concatenate([most_disputed, random.choice(others, share - len(most_disputed), replace=False)])]
