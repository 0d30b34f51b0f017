"""What happened in one policy step, as the stages of the loop tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from rewards.annotation.annotator import Continuation, LabelCost
from rewards.records import Annotated, Prompt, Rollout, StepScores
from selection.candidates import Candidates
from selection.prompts import Standing


class Remembered(Protocol):
    """What a checkpoint can hold."""

    def state(self) -> dict[str, Any]:
        """Plain JSON."""
        ...


@dataclass(frozen=True)
class Delivery:
    """What one policy step trains on.

    Attributes:
        prompts: Of each rollout.
        rollouts: Group by group.
        metrics: What there is to say about them, under full names.
        tokens: Tokens that the engines wrote since the last delivery.
        distributions: What histograms are to show, under full names.
        groups: The rollouts' groups; `rl.rollouts.stream.RolloutStream.again` makes a delivery of their states.
        believed: `rewards.annotation.evidence.Evidence.believed` of the rollouts.
        standings: What a table of prompts is to show, by title.
    """

    prompts: list[Prompt]
    rollouts: list[Rollout]
    metrics: dict[str, float]
    tokens: int
    distributions: dict[str, np.ndarray] = field(default_factory=dict)
    groups: Sequence[Remembered] = ()
    believed: np.ndarray | None = None
    standings: Mapping[str, Sequence[Standing]] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """What continuations, and the judge, if there is one, say of a policy step's rollouts.

    Attributes:
        step: That policy step, counted from 0.
        batch: What it trained on.
        scores: The MPRM's of each of these rollouts.
        places: Where the A labelled rollouts stand among them.
        annotated: They (A).
        continuations: Of each of them (A): `rewards.annotation.annotator.Annotation.continuations`.
        cost: What it took.
        metrics: Of the judge, and of labels that may come late, by their full names; empty without either.
    """

    step: int
    batch: Delivery
    scores: Sequence[StepScores]
    places: Sequence[int]
    annotated: Sequence[Annotated]
    continuations: Sequence[Sequence[Sequence[Continuation]]]
    cost: LabelCost
    metrics: dict[str, float]


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
    buffer: dict[str, float]


@dataclass(frozen=True)
class Pace:
    """How long a policy step took.

    Attributes:
        stages: What `rl.monitoring.metrics.StageClock.metrics` gave.
        busy_seconds: What the engines spent on sampling meanwhile, all of them together.
        engines: How many.
        run: What `rl.checkpoints.ledger.Ledger.finished` says of the run so far.
    """

    stages: dict[str, float]
    busy_seconds: float
    engines: int
    run: dict[str, float]


@dataclass(frozen=True)
class Said:
    """What the models, and the watch over them, have to say of a policy step, by name.

    Attributes:
        policy: Of the learner's step.
        mprm: Of the MPRM's lesson; empty if there was none.
        outcome_model: Of the outcome model's, likewise.
        answers: Of the rewards of answers; empty where they are the verifier's verdicts.
        hacking: What the watch measured, by full names.
    """

    policy: dict[str, float]
    mprm: dict[str, float]
    outcome_model: dict[str, float]
    answers: dict[str, float]
    hacking: dict[str, float]


@dataclass(frozen=True)
class StepReport:
    """All that is written down of a policy step.

    Attributes:
        pace: How long it took.
        batch: What it trained on.
        scores: The MPRM's of each of these rollouts.
        labels: What was found out about some of them, or, with `annotation.delay`, about some of an earlier step's.
        offer: Which of the labelled ones the buffer keeps.
        said: What the models have to say.
    """

    pace: Pace
    batch: Delivery
    scores: Sequence[StepScores]
    labels: Labels
    offer: Offer
    said: Said
