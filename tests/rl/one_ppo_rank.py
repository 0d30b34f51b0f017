"""Run by `tests/rl/test_ppo_ranks.py`, in one process or in several ranks: takes PPO steps, saves and goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from rewards.models.encoding import Encoder
from rewards.records import Experience
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.learning.critic import CriticSettings
from rl.learning.learner import PolicyLearner
from rl.learning.settings import LearnerSettings
from rl.tasks.grid import GridTask
from rl.tasks.grid_steps import demonstrate
from tests.ranks import learn_all


def lessons(encoder: Encoder, number: int) -> list[Experience]:
    """Written solutions of different lengths, with made-up probabilities and rewards."""
    task, generator = GridTask(), np.random.default_rng(0)
    made = []
    for index in range(number):
        tokens = tuple(encoder.tokens(demonstrate(task.puzzle("train", index))))
        logprobs = tuple(-generator.random(len(tokens)))
        made.append(Experience(task.prompt("train", index), tokens, logprobs, generator.normal(size=len(tokens)), 0))
    return made


def learn(folder: Path, backbone: str, sharding: str) -> PolicyLearner:
    """``folder`` gets what each rank saw, and the learner that they saved."""
    encoder = Encoder(str(SHIPPED_POLICY))
    critic = CriticSettings(backbone=backbone, sharding=sharding, warm_up=1)  # type: ignore[arg-type]
    settings = LearnerSettings(critic=critic, sharding=sharding, micro_batch=3)  # type: ignore[arg-type]
    learner = PolicyLearner(str(SHIPPED_POLICY), encoder, settings)
    experiences = lessons(encoder, 7)
    metrics = [learner.step(experiences)]
    learner.save(folder / "warm")
    metrics.append(learner.step(experiences))
    learner.load(folder / "warm")
    metrics.append(learner.step(experiences))
    learner.save(folder / "saved")
    (folder / f"rank-{learner.rank}.json").write_text(json.dumps(metrics))
    return learner


if __name__ == "__main__":
    learn_all(learn)
