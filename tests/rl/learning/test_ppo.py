"""PPO as a whole against plain PyTorch: the same step from the formulas, written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from rewards.models.encoding import Encoder
from rewards.process_model.step_scorer import TwoLayerHead
from rewards.records import Experience, SamplingRequest
from rl.config import Config
from rl.config.learner import ValueConfig
from rl.engines.hf_engine import HfEngine
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.learning.learner import PolicyLearner
from rl.tasks.grid import GridTask
from tests.fixtures.learner_config import learner_config
from tests.fixtures.rounding import assert_same_training, state_of

pytestmark = pytest.mark.slow

CHECKPOINT = str(SHIPPED_POLICY)
RATE, HEAD_RATE, CLIP, VALUE_CLIP, COEFFICIENT, GAMMA, LAMBDA = 1e-3, 1e-3, 0.2, 0.05, 0.7, 0.99, 0.9
BACKBONES: tuple[Literal["policy", "own"], ...] = ("policy", "own")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CHECKPOINT)


@pytest.fixture(scope="module")
def experiences() -> list[Experience]:
    """Twelve sampled rollouts of three prompts, each with a reward at its end, and a smaller one on the way."""
    task, generator = GridTask(), np.random.default_rng(0)
    prompts = [task.prompt("train", index) for index in range(3)]
    samples = HfEngine(CHECKPOINT).sample([SamplingRequest(prompt, n=4, seed=1) for prompt in prompts])
    made = []
    for prompt, group in zip(prompts, samples, strict=True):
        for sample in group:
            rewards = np.zeros(len(sample.token_ids))
            rewards[len(rewards) // 2] += generator.normal(scale=0.2)
            rewards[-1] += generator.normal()
            made.append(Experience(prompt, sample.token_ids, sample.logprobs, rewards, 0))
    return made


def settings(backbone: Literal["policy", "own"], *, micro_batch: int = 5, warm_up: int = 0, **keys: Any) -> Config:
    value = ValueConfig(
        backbone=backbone,
        discount=GAMMA,
        gae_lambda=LAMBDA,
        clip=VALUE_CLIP,
        coefficient=COEFFICIENT,
        learning_rate=HEAD_RATE,
        warm_up=warm_up,
    )
    return learner_config(
        algorithm="ppo", value=value, learning_rate=RATE, clip=CLIP, micro_batch=micro_batch, loss="dapo", **keys
    )


class PlainPPO:
    """PPO (arXiv 1707.06347) one rollout at a time, with the value head on the policy's backbone or on a copy of it."""

    def __init__(self, encoder: Encoder, experiences: list[Experience], backbone: str) -> None:
        self.encoder, self.experiences = encoder, experiences
        self.policy = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32)
        own = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32).model
        self.reader = self.policy.model if backbone == "policy" else own
        torch.manual_seed(0)
        self.head = TwoLayerHead(self.policy.config.get_text_config().hidden_size)
        learns_values = [*self.head.parameters(), *(own.parameters() if backbone == "own" else ())]
        self.groups = [list(self.policy.parameters()), learns_values]
        self.optimizers = [
            torch.optim.AdamW(group, lr=rate, weight_decay=0.0)
            for group, rate in zip(self.groups, (RATE, HEAD_RATE), strict=True)
        ]
        self.value_losses: list[float] = []

    def step(self, epochs: int) -> None:
        with torch.no_grad():
            old = [self._read(experience)[1] for experience in self.experiences]
        gains = [self._gains(e.advantages, values.tolist()) for e, values in zip(self.experiences, old, strict=True)]
        tokens = torch.cat(gains)
        for _ in range(epochs):
            objective, value_loss = torch.zeros(()), torch.zeros(())
            for experience, gain, before in zip(self.experiences, gains, old, strict=True):
                logprobs, values = self._read(experience)
                ratio = (logprobs - torch.tensor(experience.sampler_logprobs)).exp()
                advantage = (gain - tokens.mean()) / tokens.std(correction=0)
                clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
                objective = objective + torch.minimum(ratio * advantage, clipped * advantage).sum() / len(tokens)
                near = torch.clamp(values, before - VALUE_CLIP, before + VALUE_CLIP)
                worst = torch.maximum((values - gain - before) ** 2, (near - gain - before) ** 2)
                value_loss = value_loss + worst.sum() / 2 / len(tokens)
            (COEFFICIENT * value_loss - objective).backward()
            self.value_losses.append(value_loss.item())
            for group, optimizer in zip(self.groups, self.optimizers, strict=True):
                torch.nn.utils.clip_grad_norm_(group, 1.0)
                optimizer.step()
                optimizer.zero_grad()

    def critic_weights(self) -> dict[str, torch.Tensor]:
        """The weights that learn values, but for those of the policy."""
        weights = {f"head.{name}": tensor for name, tensor in self.head.named_parameters()}
        if self.reader is not self.policy.model:
            weights |= {f"backbone.{name}": tensor for name, tensor in self.reader.named_parameters()}
        return weights

    def _read(self, experience: Experience) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability of each token, and value before it."""
        batch = self.encoder.batch([experience.prompt], [experience.token_ids])
        inputs, places = batch.model_inputs(), torch.arange(len(experience.token_ids))
        before = batch.prompt_ids.shape[1] - 1
        logits = self.policy(**inputs).logits[0, before:-1]
        values = self.head(self.reader(**inputs).last_hidden_state[0, before:-1]).squeeze(-1)
        return logits.log_softmax(-1)[places, list(experience.token_ids)], values

    @staticmethod
    def _gains(rewards: np.ndarray, values: list[float]) -> torch.Tensor:
        """Generalized advantages by their recursion."""
        gain, after, found = 0.0, 0.0, []
        for reward, value in zip(rewards[::-1].tolist(), values[::-1], strict=True):
            gain = reward + GAMMA * after - value + GAMMA * LAMBDA * gain
            after = value
            found.append(gain)
        return torch.tensor(found[::-1])


def differences(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> torch.Tensor:
    assert left.keys() == right.keys()
    return torch.cat([(left[name] - right[name]).abs().flatten() for name in left])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_step_is_the_formulas_step(
    encoder: Encoder, experiences: list[Experience], tmp_path: Path, backbone: Literal["policy", "own"]
) -> None:
    learner = PolicyLearner(CHECKPOINT, encoder, settings(backbone, epochs=3))
    before = learner.weights()
    metrics = learner.step(experiences)
    plain = PlainPPO(encoder, experiences, backbone)
    plain.step(epochs=3)
    assert metrics["value_loss"] == pytest.approx(np.mean(plain.value_losses), rel=1e-3)
    assert differences(before, learner.weights()).max() > 1e-3
    learner.save(tmp_path)
    policy, critic = dict(plain.policy.named_parameters()), plain.critic_weights()
    ours = {name: weight for name, weight in learner.weights().items() if name in policy}
    state = load_file(tmp_path / "optimizer/state.safetensors")
    assert_same_training(ours, policy, (state, state_of(plain.optimizers[0], policy)), RATE, rounding=1e-2)
    ours, state = (
        load_file(tmp_path / "critic" / name) for name in ("critic.safetensors", "optimizer/state.safetensors")
    )
    assert_same_training(ours, critic, (state, state_of(plain.optimizers[1], critic)), HEAD_RATE, rounding=1e-2)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_micro_batches_do_not_change_the_step(
    encoder: Encoder, experiences: list[Experience], backbone: Literal["policy", "own"]
) -> None:
    cuts: list[dict[str, Any]] = [{"micro_batch": 12}, {"micro_batch": 5}, {"micro_batch": 5, "pack": False}]
    found = [PolicyLearner(CHECKPOINT, encoder, settings(backbone, **cut)).step(experiences) for cut in cuts]
    for name in ("loss", "grad_norm", "value_loss", "advantage_std"):
        assert [one[name] for one in found[1:]] == pytest.approx([found[0][name]] * 2, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_policy_waits_for_the_critic(
    encoder: Encoder, experiences: list[Experience], backbone: Literal["policy", "own"]
) -> None:
    """In the warm-up values get better and no weight of the policy moves; then it does."""
    learner = PolicyLearner(CHECKPOINT, encoder, settings(backbone, warm_up=3))
    before = learner.weights()
    warming = [learner.step(experiences) for _ in range(3)]
    assert differences(before, learner.weights()).max() == 0.0
    assert learner.version == 3
    assert warming[2]["value_loss"] < warming[0]["value_loss"]
    learner.step(experiences)
    assert differences(before, learner.weights()).max() > 1e-4


def test_values_learn_a_reward_that_is_always_the_same(encoder: Encoder, experiences: list[Experience]) -> None:
    """Where every rollout earns 1 at its end, the value before every token comes to be 1, and its loss 0."""
    same = [Experience(e.prompt, e.token_ids, e.sampler_logprobs, np.eye(len(e.token_ids))[-1], 0) for e in experiences]
    critic = ValueConfig(gae_lambda=1.0, clip=1.0, learning_rate=1e-2, warm_up=100)
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(algorithm="ppo", value=critic))
    losses = [learner.step(same)["value_loss"] for _ in range(20)]
    assert losses[0] == pytest.approx(0.5)
    assert losses[-1] < 0.05


@pytest.mark.parametrize("backbone", BACKBONES)
def test_numbers_and_memory_do_not_change_the_step(
    encoder: Encoder, experiences: list[Experience], backbone: Literal["policy", "own"]
) -> None:
    """With adapters: activations computed again, and bfloat16 but for its digits."""
    found = {}
    for name, other in {
        "plain": settings(backbone, lora_rank=4),
        "checkpointing": settings(backbone, lora_rank=4, gradient_checkpointing=True),
        "bfloat16": settings(backbone, lora_rank=4, dtype="bfloat16"),
    }.items():
        learner = PolicyLearner(CHECKPOINT, encoder, other)
        found[name] = [learner.step(experiences) for _ in range(2)]
    values = ("value_loss", "value_grad_norm")
    for name, digits, metrics in (("checkpointing", 1e-4, (*values, "loss", "grad_norm")), ("bfloat16", 5e-2, values)):
        for step, expected in zip(found[name], found["plain"], strict=True):
            for metric in metrics:
                assert step[metric] == pytest.approx(expected[metric], rel=digits, abs=1e-6), (name, metric)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_saved_learner_goes_on_as_if_never_saved(
    encoder: Encoder, experiences: list[Experience], tmp_path: Path, backbone: Literal["policy", "own"]
) -> None:
    learner = PolicyLearner(CHECKPOINT, encoder, settings(backbone))
    learner.step(experiences)
    learner.save(tmp_path)
    restored = PolicyLearner(CHECKPOINT, encoder, settings(backbone))
    restored.load(tmp_path)
    for _ in range(2):
        ours, theirs = learner.step(experiences), restored.step(experiences)
        for name in ("loss", "grad_norm", "value_loss", "explained_variance"):
            assert ours[name] == theirs[name]
    assert differences(learner.weights(), restored.weights()).max() == 0.0


def test_a_value_loss_that_is_not_finite_leaves_everything(encoder: Encoder, experiences: list[Experience]) -> None:
    learner = PolicyLearner(CHECKPOINT, encoder, settings("policy", max_skipped=0))
    before = learner.weights()
    broken = [
        Experience(e.prompt, e.token_ids, e.sampler_logprobs, np.full(len(e.token_ids), np.nan), 0) for e in experiences
    ]
    with pytest.raises(FloatingPointError, match="policy update 1"):
        learner.step(broken)
    assert differences(before, learner.weights()).max() == 0.0 and learner.version == 0
    fresh = PolicyLearner(CHECKPOINT, encoder, settings("policy"))
    assert learner.step(experiences)["value_loss"] == fresh.step(experiences)["value_loss"]
