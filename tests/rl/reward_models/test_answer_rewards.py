"""What answers earn in training, and the lessons and checkpoints of the outcome model behind it, a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.models.encoding import Encoder
from rewards.records import Prompt, Rollout
from rl.config import Config
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.reward_models.outcome import AnswerRewards, start_outcome_model
from rl.workers.ray_cluster import join_ray, leave_ray
from tests.fixtures.builders import a_rollout
from tests.fixtures.preference_pairs import grid_preferences
from tests.fixtures.runs import warm_ray

SETTINGS = {"harvest": True, "every": 2, "batches": 2, "batch_size": 4, "learning_rate": 5e-3, "capacity": 10}


@pytest.fixture(scope="module")
def sampled() -> tuple[list[Prompt], list[Rollout]]:
    """Groups of a right and a wrong answer each."""
    prompts, rollouts = [], []
    for group, pair in enumerate(grid_preferences(Encoder(str(SHIPPED_POLICY)), "train", range(8))):
        for outcome, tokens in ((1.0, pair.chosen), (0.0, pair.rejected)):
            prompts.append(pair.prompt)
            rollouts.append(a_rollout(outcome=outcome, group=group, prompt=pair.prompt.id, tokens=tokens))
    return prompts, rollouts


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with warm_ray():
        join_ray(num_cpus=2)
        yield
        leave_ray()


def configured(**changes: Any) -> Config:
    return Config.model_validate({"outcome_model": SETTINGS | changes})


@pytest.mark.slow
def test_it_learns_from_siblings_and_goes_on_as_if_never_stopped(
    sampled: tuple[list[Prompt], list[Rollout]], cluster: None, tmp_path: Path
) -> None:
    prompts, rollouts = sampled
    config = configured(reward="hybrid")
    answers = AnswerRewards(config, start_outcome_model(config))
    worth, metrics = answers.rewarded(prompts, rollouts)
    assert [entry.outcome for entry in worth] == [1.0, 0.5] * 8, "it knows nothing yet"
    assert metrics == {"model": 0.5, "answers": 0.75, "model_gap": 0.0}
    assert answers.teach(0, prompts[:10], rollouts[:10]).result() == {}, "every second step"
    report = answers.teach(1, prompts, rollouts).result()
    assert report["loss"] == pytest.approx(np.log(2), abs=0.2) and report["skipped"] == 0
    worth, metrics = answers.rewarded(prompts, rollouts)
    model = [entry.outcome for entry in worth[1::2]]
    assert {entry.outcome for entry in worth[::2]} == {1.0} and all(0 < score < 1 and score != 0.5 for score in model)
    assert [replace(entry, outcome=rollout.outcome) for entry, rollout in zip(worth, rollouts, strict=True)] == rollouts
    for answer in answers.save(tmp_path):
        answer.result()
    again = AnswerRewards(config, start_outcome_model(config))
    for answer in again.load(tmp_path):
        answer.result()
    lessons = [each.teach(3, prompts, rollouts) for each in (answers, again)]
    assert lessons[0].result() == lessons[1].result() != {}
    assert answers.rewarded(prompts, rollouts) == again.rewarded(prompts, rollouts)


def test_a_run_without_a_model_takes_the_verifiers_word(
    sampled: tuple[list[Prompt], list[Rollout]], tmp_path: Path
) -> None:
    prompts, rollouts = sampled
    answers = AnswerRewards(Config(), start_outcome_model(Config()))
    assert answers.rewarded(prompts, rollouts) == (rollouts, {}) and answers.teach(1, prompts, rollouts).result() == {}
    assert answers.save(tmp_path) == answers.load(tmp_path) == [] and not list(tmp_path.iterdir())
