"""`min_form` against the loops of PURE's own code."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from rewards.credit.batch import ScoredBatch
from rewards.credit.min_form import min_form
from tests.fixtures.credit_cases import Case, Step, batch_of, plain_transformed


def published_min_form(batch: ScoredBatch, i: int) -> list[float]:
    """PURE's own loops (experience_maker.py): step lengths without the token that ends them, which is masked."""
    own, separates = batch.rollouts[i], batch.separators[i]
    others = [j for j, rollout in enumerate(batch.rollouts) if rollout.group == own.group and j != i]
    per_token = sum(sum(plain_transformed(batch.scores[j])) for j in others) / sum(
        len(batch.rollouts[j].token_ids) for j in others
    )
    rewards = [0.0] * len(own.token_ids)
    for span, reward in zip(own.steps, plain_transformed(batch.scores[i]), strict=True):
        rewards[span.end - 1] += reward - per_token * sum(not separates[t] for t in range(span.start, span.end))
    rewards[-1] += own.outcome - fmean(batch.rollouts[j].outcome for j in others)
    masked = [*separates[:-1], True]
    return [0.0 if masked[t] else sum(rewards[t:]) for t in range(len(rewards))]


def test_min_form_without_separators_is_the_published_one() -> None:
    cases = [
        Case(0, 1.0, [Step(0.9, 0, 0, 3, 0), Step(0.2, 0, 0, 4, 0)], 1, False),
        Case(0, 0.0, [Step(0.4, 0, 0, 2, 0), Step(0.7, 0, 0, 5, 0), Step(0.1, 0, 0, 3, 0)], 2, False),
    ]
    batch = batch_of(cases)
    marks = [np.isin(np.arange(len(r.token_ids)), [s.end - 1 for s in r.steps]) for r in batch.rollouts]
    batch = replace(batch, separators=marks)
    for i, (tokens, mark) in enumerate(zip(min_form(batch), marks, strict=True)):
        assert np.where(mark, 0, tokens) == pytest.approx(np.array(published_min_form(batch, i)))
    cut = replace(batch, rollouts=[replace(r, finish_reason="length") for r in batch.rollouts])
    assert min_form(cut)[0][-1] == 1.0, "an answer that was cut off has no token that ends it"
    assert min_form(replace(batch, separators=()))[0][-1] == 1.0
