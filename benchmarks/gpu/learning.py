"""Policy and reward model, learning: the same made-up rollouts on every device."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.learner import make_experiences
from rewards.models import sharding
from rewards.models.encoding import Encoder
from rewards.process_model.config import MPRMConfig
from rewards.process_model.mprm import MPRM
from rewards.records import Annotated, Rollout, StepCounts, StepSpan
from rl.config import Config
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.learning.learner import PolicyLearner

CHECKPOINT = str(SHIPPED_POLICY)
SIZES = argparse.Namespace(prompts=3, samples=4, question=8, image=84, answer=24)
UNTOLD = ("seconds", "flops_utilisation", "clipped")
"""The last one is a count, which rounding changes by one."""


def make_learner(dtype: str = "float32", value: Mapping[str, Any] = {}, **keys: Any) -> PolicyLearner:
    """Of the shipped policy; ``keys`` are those of the section `learner`."""
    sections = {
        "policy": {"dtype": dtype},
        "engine": {"max_completion_tokens": SIZES.answer, "max_model_len": 128},
        "learner": {"micro_batch": 4, "learning_rate": 1e-3, **keys},
        "value": dict(value),
        "mprm": {"lora_rank": 1},
    }
    return PolicyLearner(CHECKPOINT, Encoder(CHECKPOINT), Config.model_validate(sections))


def take_steps(learner: PolicyLearner) -> dict[str, float]:
    """Two steps, the second once more from a checkpoint; what was seen, and what differs that must not."""
    experiences = make_experiences(learner._encoder, SIZES, step=0)
    asked = [e.prompt for e in experiences], [e.token_ids for e in experiences]
    found = {"logprobs before": mean(learner.logprobs(*asked))}
    found |= {f"first {name}": value for name, value in learner.step(experiences).items() if name not in UNTOLD}
    with tempfile.TemporaryDirectory() as folder:
        learner.save(Path(folder))
        before = learner.logprobs(*asked)
        second = learner.step(experiences)
        learner.load(Path(folder))
        found["difference of logprobs after load"] = apart(before, learner.logprobs(*asked))
        again = learner.step(experiences)
    for name in ("loss", "grad_norm"):
        found[f"difference of {name} from there"] = abs(second[name] - again[name]) / max(abs(second[name]), 1e-3)
    found["logprobs after"] = mean(learner.logprobs(*asked))
    weights = learner.weights()
    found["tensors for the engines"] = float(len(weights))
    found["weights for the engines"] = float(sum(weight.double().square().sum() for weight in weights.values()) ** 0.5)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def mean(rows: list[list[float]]) -> float:
    """Of all tokens."""
    return float(np.concatenate(rows).mean())


def apart(left: list[list[float]], right: list[list[float]]) -> float:
    """The largest difference."""
    return float(np.abs(np.concatenate(left) - np.concatenate(right)).max())


def float32(device: str) -> dict[str, float]:
    """All weights."""
    return take_steps(make_learner())


def bfloat16(device: str) -> dict[str, float]:
    """All weights, computed with in bfloat16, activations computed again on the way back, against a reference."""
    return take_steps(make_learner("bfloat16", gradient_checkpointing=True, kl=0.1, correction="token_truncate"))


def adapters(device: str) -> dict[str, float]:
    """Adapters over bfloat16."""
    learner = make_learner("bfloat16", lora_rank=8, gradient_checkpointing=True)
    return take_steps(learner) | {"adapters": float(len(learner.adapters()))}


def offloading(device: str) -> dict[str, float]:
    """A step whose layers' inputs wait in the machine's own memory, against one that keeps them."""
    kept, elsewhere = [
        learner.step(make_experiences(learner._encoder, SIZES, step=0))
        for learner in (
            make_learner("bfloat16", gradient_checkpointing=True, activation_offload=offload)
            for offload in (False, True)
        )
    ]
    return {
        f"difference of {name}": abs(kept[name] - elsewhere[name]) / max(abs(kept[name]), 1e-3)
        for name in ("loss", "grad_norm")
    }


def ppo(device: str) -> dict[str, float]:
    """With a value head on the policy, and with a value model of its own."""
    found = {}
    for backbone in ("policy", "own"):
        steps = take_steps(make_learner(algorithm="ppo", value={"backbone": backbone}))
        found |= {f"{name} ({backbone})": value for name, value in steps.items()}
    return found


def one_rank(device: str) -> dict[str, float]:
    """FSDP2 as several ranks have it, by the one that there is: the same numbers as without."""
    os.environ.update(
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    )
    torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    plain, forced = sharding.spread, []

    def spread(model: Any, layers: Any, methods: Any, accelerator: Any, kind: Any) -> Any:
        forced.append(model)
        return plain(model, layers, methods, _Several(accelerator), "fsdp2")

    import rl.learning.learner

    rl.learning.learner.spread = spread  # type: ignore[attr-defined]
    found = take_steps(make_learner(sharding="fsdp2"))
    assert forced and all(hasattr(p, "to_local") for p in forced[0].parameters()), "its weights are in parts"
    return found


class _Several:
    """An accelerator that does not say that it is alone."""

    def __init__(self, accelerator: Any) -> None:
        self.device, self.mixed_precision = accelerator.device, accelerator.mixed_precision
        self.num_processes = _One(1)


class _One(int):
    """A number of processes, as large as 1, for which nothing is left out."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def reward_model(device: str) -> dict[str, float]:
    """Scores, an update, one that is put back, a checkpoint, and what it says of pictures; in bfloat16 and float32."""
    encoder = Encoder(CHECKPOINT)
    lessons = make_lessons(encoder)
    asked = [entry.prompt for entry in lessons], [entry.rollout for entry in lessons]
    found = {}
    for rank in (0, 8):
        settings = MPRMConfig(lora_rank=rank, batch_size=6, micro_batch_tokens=300, learning_rate=1e-3)
        model = MPRM(CHECKPOINT, Encoder(CHECKPOINT), settings=settings)

        def scores(model: MPRM = model) -> np.ndarray:
            return np.concatenate([entry.scores for entry in model.score(*asked)])

        before = scores()
        taken_back = model.update(lessons, lessons, margin=-2.0)
        kept = {
            "rolled back": taken_back["rolled_back"],
            "difference after that": float(np.abs(scores() - before).max()),
        }
        metrics = model.train(lessons)
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder))
            after = scores()
            model.train(lessons)
            model.load(Path(folder))
            kept["difference of scores after load"] = float(np.abs(scores() - after).max())
        kept |= {"scores before": float(before.mean()), "scores after": float(after.mean()), "loss": metrics["loss"]}
        kept |= {"grad_norm": metrics["grad_norm"], "image entropy": float(model.image_entropy(asked[0]).mean())}
        found |= {f"{name} (rank {rank})": value for name, value in kept.items()}
    return found


def make_lessons(encoder: Encoder) -> list[Annotated]:
    """Answers of two steps each, labelled by chance."""
    generator = np.random.default_rng(0)
    lessons = []
    for number, e in enumerate(make_experiences(encoder, SIZES, step=1)):
        half, length = len(e.token_ids) // 2, len(e.token_ids)
        spans = (StepSpan(0, half), StepSpan(half, length))
        prompt = e.prompt
        rollout = Rollout(prompt.id, prompt.source, number // 4, e.token_ids, (), "", spans, 1.0, "stop", 0)
        right, sampled = generator.integers(0, 5, 2), np.full(2, 4)
        lessons.append(Annotated(prompt, rollout, StepCounts(right, sampled, 0)))
    return lessons
