"""Run by `tests/rl/test_learner_ranks.py`, in one process or in several ranks: learns, saves, loads and goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from rewards.models.encoding import Encoder
from rewards.records import Experience
from rl.learning.learner import PolicyLearner
from rl.learning.settings import LearnerSettings
from tests.ranks import learn_all
from tests.rl.learner_experiences import CHECKPOINT, of_another_sampler, sampled_experiences


def learned_rollouts(with_text_alone: bool) -> list[Experience]:
    """Eleven rollouts, of which the first five may be of prompts without their image."""
    experiences = of_another_sampler(sampled_experiences())[:11]
    for place in range(5 if with_text_alone else 0):
        prompt = experiences[place].prompt
        blind = replace(prompt, id=f"{prompt.id}/text", images=())
        experiences[place] = replace(experiences[place], prompt=blind)
    return experiences


def skipped_steps(learner: PolicyLearner, experiences: list[Experience]) -> float:
    """Optimizer steps that are left out, where one rollout is broken, which one of the ranks reads."""
    before = learner.weights()
    broken = replace(experiences[0], advantages=np.full(len(experiences[0].token_ids), np.nan))
    skipped = learner.step([broken, *experiences[1:]])["skipped"]
    after = learner.weights()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    return skipped


def learn(folder: Path, **values: Any) -> PolicyLearner:
    """``folder`` gets what this rank saw, the weights that the first one has, and a saved learner.

    Eleven rollouts in micro-batches of two: the last one of two ranks has nothing of its own to do in the end.
    """
    settings = LearnerSettings(micro_batch=2, **values)
    experiences = learned_rollouts(with_text_alone=settings.sharding == "ddp")
    learner = PolicyLearner(CHECKPOINT, Encoder(CHECKPOINT), settings)
    metrics = [learner.step(experiences)]
    weights = learner.weights()
    learner.save(folder / "saved")
    metrics.append(learner.step(experiences))
    learner.load(folder / "saved")
    assert learner.version == 1
    metrics.append(learner.step(experiences))
    logprobs = learner.logprobs([e.prompt for e in experiences], [e.token_ids for e in experiences])
    adapters = learner.adapters()
    skipped = 1.0 if settings.sharding == "deepspeed" else skipped_steps(learner, experiences)
    if learner.rank == 0:
        save_file({name: value.contiguous() for name, value in weights.items()}, folder / "weights.safetensors")
    seen = {"metrics": metrics, "logprobs": logprobs, "tensors": len(weights), "adapters": len(adapters)}
    seen["skipped"] = skipped
    (folder / f"rank-{learner.rank}.json").write_text(json.dumps(seen))
    return learner


if __name__ == "__main__":
    learn_all(learn)
