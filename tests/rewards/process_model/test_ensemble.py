"""Several reward models as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.process_model.ensemble import AnswerJudge, OutcomeEnsemble, ProcessEnsemble, combine
from rewards.records import Prompt, Rollout, StepScores
from tests.fixtures.builders import a_prompt, a_rollout

ROLLOUTS = [a_rollout([2, 2]), a_rollout([1, 2, 3]), a_rollout([])]
PROMPTS = [a_prompt()] * 3


class Opinionated:
    """Says of every step or answer what its number says; stands for a model, whose scores are another file's matter."""

    def __init__(self, number: int) -> None:
        self.version, self.number, self.lessons = number, number, 0

    def said(self, rollout: Rollout) -> np.ndarray:
        return np.array([1 / (1 + self.number + span.end) for span in rollout.steps])

    def score(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
        return [StepScores(self.said(rollout), self.version) for rollout in rollouts]

    def train(self, samples: Sequence[object]) -> dict[str, float]:
        self.lessons += len(samples)
        self.version += 1
        return {"loss": 1.0}


SCORES = st.integers(1, 4).flatmap(
    lambda members: st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=members, max_size=members)
)


@given(SCORES, st.data())
def test_scores_are_combined_element_by_element(scores: list[list[float]], data: st.DataObject) -> None:
    rows = np.array(scores)
    weights = data.draw(st.lists(st.floats(0.01, 9), min_size=len(rows), max_size=len(rows)))
    assert combine(list(rows), "mean") == pytest.approx(rows.sum(0) / len(rows))
    assert combine(list(rows), "minimum").tolist() == [min(column) for column in rows.T]
    expected = sum(w * row for w, row in zip(weights, rows, strict=True)) / sum(weights)
    assert combine(list(rows), weights) == pytest.approx(expected)
    assert combine(list(rows), [0.0] * (len(rows) - 1) + [2.0]) == pytest.approx(rows[-1])


@pytest.mark.parametrize("weights", [[1.0], [1.0, 2.0, 3.0], [1.0, -0.5], [0.0, 0.0], []])
def test_weights_must_fit(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="allowed is one a model, 2, none negative and not all 0"):
        ProcessEnsemble([Opinionated(0), Opinionated(1)], weights)


def test_process_models_judge_every_step_together() -> None:
    members = [Opinionated(3), Opinionated(0)]
    scores = ProcessEnsemble(members, [3.0, 1.0]).score(PROMPTS, ROLLOUTS)
    for said, rollout in zip(scores, ROLLOUTS, strict=True):
        assert said.scores == pytest.approx(0.75 * members[0].said(rollout) + 0.25 * members[1].said(rollout))
        assert said.mprm_version == 3 and said.concentration is None


def test_the_first_model_learns_and_the_others_stay() -> None:
    members = [Opinionated(3), Opinionated(0)]
    together = ProcessEnsemble(members, "minimum")
    assert together.train([1, 2]) == {"loss": 1.0}
    assert [member.lessons for member in members] == [2, 0]
    assert together.version == 4 and together.score(PROMPTS, ROLLOUTS)[0].mprm_version == 4
    with pytest.raises(AttributeError):
        together.no_such_thing  # noqa: B018


def test_process_models_may_judge_whole_answers_too() -> None:
    members = [Opinionated(1), Opinionated(2)]
    together = OutcomeEnsemble([AnswerJudge(member) for member in members], "mean")
    expected = [
        np.mean([member.said(rollout).mean() if rollout.steps else 0.0 for member in members]) for rollout in ROLLOUTS
    ]
    assert together.score(PROMPTS, ROLLOUTS) == pytest.approx(expected)
