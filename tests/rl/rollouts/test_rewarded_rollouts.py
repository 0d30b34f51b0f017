"""What a verdict with a score, and rewards beside it, do to rollouts: credit sees what they are worth, all else whether
they are right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rewards.annotation.annotator import Annotation
from rewards.annotation.budgets import make_budget
from rewards.models.encoding import Encoder
from rewards.records import Completion, Rollout, StepScores
from rewards.verification.verifiers import exact
from rl.config import Config
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.monitoring.metrics import reward_metrics
from rl.reward_models.credit import make_credit
from rl.reward_models.outcome import AnswerRewards
from rl.rollouts.groups import Group
from rl.rollouts.making import make_group
from rl.tasks.making import make_added_rewards, make_verifier
from tests.fixtures.builders import a_prompt, a_rollout
from tests.fixtures.simulated_engine import SimulatedEngine, finish

ENCODER = Encoder(str(SHIPPED_POLICY))
PROMPT = replace(a_prompt(answer="4"), columns={"near": [3, 5]})


def answer_of(completion: str) -> str:
    return completion.rpartition("Answer:")[2].strip()


def nearness(completion: str, reference: str, row: dict[str, Any]) -> dict[str, Any]:
    """Half for an answer that the row calls near; right is right alone."""
    answer = answer_of(completion)
    near = answer.isdigit() and int(answer) in row["near"]
    return {"close": 1.0 if answer == reference else 0.5 * near, "told": float("Answer:" in completion)}


def right_if_near(completion: str, reference: str, row: dict[str, Any]) -> dict[str, Any]:
    """The same, and near is right."""
    parts = nearness(completion, reference, row)
    return {**parts, "correct": parts["close"] > 0}


def answered(*answers: str) -> list[Completion]:
    ids = [(*ENCODER.tokens(f"1: 2 + 2 = 4\n{answer}"), ENCODER.end_token) for answer in answers]
    return [Completion(tokens, (-0.5,) * len(tokens), "stop", 0) for tokens in ids]


def config(verifier: str = "nearness", **keys: Any) -> Config:
    task = {"verifier": verifier if verifier == "exact" else f"{__name__}:{verifier}"}
    learner = {"credit": "outcome", "scale_rewards": "none"}
    return Config.model_validate({"task": task | keys, "learner": learner, "engine": {"max_completion_tokens": 20}})


def group_of(made: Config, *answers: str) -> list[Rollout]:
    verifier, rewards = make_verifier(made), make_added_rewards(made)
    return make_group(PROMPT, answered(*answers), 0, ENCODER, verifier, rewards)


ANSWERS = ("Answer: 4", "Answer: 5", "Answer: 9", "9")


def test_a_rollout_is_right_or_wrong_and_worth_a_score() -> None:
    rollouts = group_of(config(), *ANSWERS)
    assert [rollout.outcome for rollout in rollouts] == [1, 0, 0, 0]
    assert [rollout.reward for rollout in rollouts] == [1, 0.75, 0.5, 0]
    assert rollouts[1].said == {"score": 0.75, "parts/close": 0.5, "parts/told": 1.0}
    near = group_of(config("right_if_near"), *ANSWERS)
    assert [rollout.outcome for rollout in near] == [1, 1, 0, 0]
    assert [rollout.reward for rollout in near] == [1, 0.75, 0.5, 0]


def test_parts_are_weighted_as_the_configuration_says() -> None:
    rollouts = group_of(config(weights={"told": 0.5}), *ANSWERS)
    assert [rollout.reward for rollout in rollouts] == pytest.approx([1, 1 / 1.5, 0.5 / 1.5, 0])
    alone = group_of(config(weights={"told": 0}), *ANSWERS)
    assert [rollout.reward for rollout in alone] == [1, 0.5, 0, 0]


def test_added_rewards_change_the_reward_and_no_verdict() -> None:
    rewards = {"overlong": 1.0, "format": 0.5}
    rollouts = group_of(config("exact", rewards=rewards, overlong_tokens=20, format=".*Answer:.*"), *ANSWERS)
    assert [rollout.outcome for rollout in rollouts] == [1, 0, 0, 0]
    assert [rollout.score for rollout in rollouts] == [None] * 4
    late = [-len(rollout.token_ids) / 20 for rollout in rollouts]
    assert [rollout.said for rollout in rollouts] == [
        {"added/overlong": pytest.approx(penalty), "added/format": form}
        for penalty, form in zip(late, [1, 1, 1, 0], strict=True)
    ]
    assert [rollout.reward for rollout in rollouts] == pytest.approx(
        [1 + 0.5 + late[0], 0.5 + late[1], 0.5 + late[2], late[3]]
    )


def test_credit_sees_the_reward_and_signal_the_verdict() -> None:
    made = config()
    for answers, signal in ((ANSWERS, True), (("Answer: 5", "Answer: 9"), False)):
        rollouts = group_of(made, *answers)
        assert Group(0, PROMPT, 0, rollouts=rollouts).has_signal == signal
        worth, metrics = AnswerRewards(made, None).rewarded([PROMPT] * len(rollouts), rollouts)
        rewards = np.array([rollout.reward for rollout in rollouts])
        assert metrics == {"answers": pytest.approx(rewards.mean())}
        experiences = make_credit(made, ENCODER.separators).experiences([PROMPT] * len(rollouts), worth)
        assert [e.advantages[0] for e in experiences] == pytest.approx(rewards - rewards.mean())
    equal = group_of(made, "Answer: 5", "Answer: 3")
    assert not Group(0, PROMPT, 0, rollouts=equal).has_signal


def test_without_any_of_it_the_reward_is_the_verdict() -> None:
    made = config("exact")
    rollouts = group_of(made, *ANSWERS)
    worth, metrics = AnswerRewards(made, None).rewarded([PROMPT] * 4, rollouts)
    assert worth == rollouts and metrics == {}
    assert all(rollout.said == {} and rollout.score is None and rollout.added == 0 for rollout in rollouts)


def test_labels_rest_on_the_verdict() -> None:
    rollouts = [a_rollout([1, 1], tokens=(11, 12, 13))]
    for verifier, right in (("nearness", 0), ("right_if_near", 4)):
        annotation = Annotation(
            rollouts, [PROMPT], make_budget("fixed", 4), lambda ids: "Answer: 5", make_verifier(config(verifier)), 0
        )
        finish(annotation, SimulatedEngine(lambda request: 1.0))
        assert annotation.counts()[0].correct.tolist() == [right, right]


def test_every_part_is_a_metric() -> None:
    rollouts = group_of(config(rewards={"format": 0.5}, format=".*Answer:.*"), *ANSWERS)
    made = reward_metrics(rollouts, [StepScores(np.array([0.5]), 0)] * 4, [], [])
    assert made["reward/outcome"] == 0.25 and made["reward/score"] == 0.5625
    assert (made["reward/parts/close"], made["reward/parts/told"], made["reward/added/format"]) == (0.375, 0.75, 0.75)
    plain = reward_metrics(group_of(config("exact"), *ANSWERS), [StepScores(np.array([0.5]), 0)] * 4, [], [])
    assert set(made) - set(plain) == {"reward/score", "reward/parts/close", "reward/parts/told", "reward/added/format"}


def test_a_part_that_some_answers_lack_is_the_mean_of_the_others() -> None:
    known, unknown = replace(a_rollout(), said={"parts/a": 0.5}), a_rollout()
    made = reward_metrics([known, unknown, known], [StepScores(np.array([0.5]), 0)] * 3, [], [])
    assert made["reward/parts/a"] == 0.5


def test_a_plain_function_is_a_verifier_as_before() -> None:
    (rollout,) = make_group(PROMPT, answered("Answer: 4"), 0, ENCODER, exact)
    assert (rollout.outcome, rollout.reward, rollout.said) == (1.0, 1.0, {})
