"""What happened in one policy step, as the stages of the loop tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rewards.annotation.annotator import Continuation, LabelCost
from rewards.records import Annotated
from selection.candidates import Candidates


@dataclass(frozen=True)
class Labels:
    """What continuations, and the judge, if there is one, say of a policy step's rollouts.

    Attributes:
        places: Where the A labelled rollouts stand among the step's.
        annotated: They (A).
        continuations: Of each of them (A): `rewards.annotation.annotator.Annotation.continuations`.
        cost: What it took.
        judge: Metrics of the judge by their full names; empty without one.
    """

    places: Sequence[int]
    annotated: Sequence[Annotated]
    continuations: Sequence[Sequence[Sequence[Continuation]]]
    cost: LabelCost
    judge: Mapping[str, float]


@dataclass(frozen=True)
class Offer:
    """What the selector said of labelled rollouts, and how the buffer stands after it was shown them.

    Attributes:
        candidates: What the selector saw (A).
        informative: Its score of each (A,), NaN for none.
        seen: Rollouts that the buffer has been offered so far.
        kept: All that it keeps now (K).
        kept_scores: Their decayed scores (K,), in no particular order.
        buffer: `selection.buffer.StreamingBuffer.statistics`, and what its ``offer`` gave.
    """

    candidates: Candidates
    informative: np.ndarray
    seen: int
    kept: Sequence[Annotated]
    kept_scores: np.ndarray
    buffer: Mapping[str, float]
