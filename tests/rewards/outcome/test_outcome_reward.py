"""What an answer is worth: rule, model, and both."""

from __future__ import annotations

import numpy as np
import pytest

from rewards.outcome.config import OutcomeReward
from rewards.outcome.outcome_model import outcome_rewards
from tests.fixtures.builders import a_rollout

ROLLOUTS = [a_rollout(outcome=1.0), a_rollout(outcome=0.0), a_rollout(outcome=1.0), a_rollout(outcome=0.0)]
SCORES = np.array([0.2, 0.9, 0.7, 0.0])


@pytest.mark.parametrize(
    ("kind", "rewards"),
    [("rule", [1.0, 0.0, 1.0, 0.0]), ("model", [0.2, 0.9, 0.7, 0.0]), ("hybrid", [1.0, 0.9, 1.0, 0.0])],
)
def test_the_rule_comes_first_where_it_passes(kind: OutcomeReward, rewards: list[float]) -> None:
    assert outcome_rewards(ROLLOUTS, kind, SCORES).tolist() == rewards


def test_the_rule_needs_no_model_and_the_others_do() -> None:
    assert outcome_rewards(ROLLOUTS, "rule").tolist() == [1.0, 0.0, 1.0, 0.0]
    for kind in ("model", "hybrid"):
        for scores in (None, SCORES[:3], SCORES[:, None]):
            with pytest.raises(ValueError, match=f"'{kind}' needs one score for each of 4 rollouts"):
                outcome_rewards(ROLLOUTS, kind, scores)
    assert outcome_rewards([], "hybrid", np.zeros(0)).shape == (0,)


def test_scores_are_left_as_they_are() -> None:
    scores = SCORES.copy()
    outcome_rewards(ROLLOUTS, "hybrid", scores)[:] = -1
    assert scores.tolist() == SCORES.tolist()
