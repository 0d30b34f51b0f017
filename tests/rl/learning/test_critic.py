"""The critic by itself: its loss, what it reads, and what it comes to know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.autograd import gradcheck
from transformers import AutoModelForImageTextToText
from trl.trainer.utils import add_fused_lm_head

from rewards.models.encoding import Encoder
from rewards.process_model.step_scorer import TwoLayerHead
from rewards.records import Experience, Prompt
from rl.config import Config
from rl.config.learner import ValueConfig
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.learning.advantages import explained_variance
from rl.learning.critic import (
    Critic,
    Estimate,
    LastStates,
    value_loss,
)
from rl.tasks.grid import GridTask
from tests.fixtures.builders import an_image
from tests.fixtures.learner_config import learner_config
from tests.fixtures.tiny_families import FAMILIES, write_tiny_checkpoint

pytestmark = pytest.mark.slow

CHECKPOINT = str(SHIPPED_POLICY)
COMPLETIONS = ([20, 21, 22, 23, 24], [30, 31], [25, 26, 27])


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CHECKPOINT)


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return [GridTask().prompt("train", index) for index in range(3)]


def a_policy(checkpoint: str = CHECKPOINT) -> AutoModelForImageTextToText:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    add_fused_lm_head(model)
    return model


def a_critic(encoder: Encoder, config: Config, policy: torch.nn.Module | None = None) -> Critic:
    return Critic(config, policy or a_policy(), CHECKPOINT, encoder, Accelerator(cpu=True))


def experiences_of(prompts: list[Prompt], completions: Sequence[Sequence[int]] = COMPLETIONS) -> list[Experience]:
    return [
        Experience(prompt, tuple(tokens), (0.0,) * len(tokens), np.zeros(len(tokens)), 0)
        for prompt, tokens in zip(prompts, completions, strict=False)
    ]


def read(policy: torch.nn.Module, encoder: Encoder, experiences: list[Experience]) -> None:
    """A pass of the policy."""
    policy(**encoder.batch([e.prompt for e in experiences], [e.token_ids for e in experiences]).model_inputs())


def an_estimate(values: list[float], returns: list[float]) -> Estimate:
    return Estimate(np.array(values), np.array(returns), np.zeros(len(values)))


def a_loss(values: float, old: float, returns: float, clip: float) -> float:
    """The loss of one token, by cases: outside the range, only a value on its way away from the return learns."""
    outside = abs(values - old) > clip
    limit = old + math.copysign(clip, values - old)
    if outside and abs(limit - returns) > abs(values - returns):
        return 0.5 * (limit - returns) ** 2
    return 0.5 * (values - returns) ** 2


def test_value_loss_by_cases() -> None:
    generator = np.random.default_rng(0)
    for values, old, returns in generator.normal(size=(200, 3)):
        tensors = [torch.tensor(number) for number in (values, old, returns)]
        assert value_loss(*tensors, clip=0.3).item() == pytest.approx(a_loss(values, old, returns, 0.3))


def test_value_loss_has_the_gradient_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    values, old, returns = torch.randn(3, 40, dtype=torch.float64, generator=generator)
    assert gradcheck(lambda moved: value_loss(moved, old, returns, clip=0.3), values.requires_grad_())


def test_a_value_that_went_far_to_its_return_learns_no_further() -> None:
    values = torch.tensor([0.5, -0.5], requires_grad=True)
    value_loss(values, torch.zeros(2), torch.ones(2), clip=0.2).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [0.0, -1.5]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_states_caught_are_those_the_language_head_reads(family: str, tmp_path: Path) -> None:
    """From them come the same log-probabilities as TRL's fused head gives."""
    checkpoint = write_tiny_checkpoint(family, tmp_path)
    model, encoder = a_policy(checkpoint), Encoder(checkpoint)
    caught = LastStates(model)
    images = [(an_image(size=(60, 40)),), (an_image(size=(30, 80)), an_image(size=(50, 50)))]
    prompts = [Prompt(f"{index}", "test", "What is this?", seen, "1") for index, seen in enumerate(images)]
    batch = encoder.batch(prompts, [[40, 41, 42, 43], [50, 51]])
    inputs = batch.model_inputs()
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    labels[:, : batch.prompt_ids.shape[1]] = -100
    logprobs = model(**inputs, labels=labels, fused_lm_head=True).log_probs[:, -4:]
    states = caught.take()
    assert states.shape == (*inputs["input_ids"].shape, model.config.get_text_config().hidden_size)
    assert states.requires_grad
    ours = model.get_output_embeddings()(states[:, -5:-1]).log_softmax(-1)
    ours = ours.gather(2, batch.completion_ids.unsqueeze(2)).squeeze(2) * batch.completion_mask
    assert (ours - logprobs).abs().max().item() < 1e-5
    with pytest.raises(RuntimeError, match="nothing since"):
        caught.take()


@pytest.mark.parametrize("backbone", ["policy", "own"])
def test_values_are_of_the_states_before_the_tokens(encoder: Encoder, prompts: list[Prompt], backbone: str) -> None:
    """A token changes the values of later tokens and not its own, and padding changes none; new values are 0."""
    policy = a_policy()
    critic = a_critic(encoder, learner_config(value=ValueConfig(backbone=backbone)), policy)  # type: ignore[arg-type]

    def values(completions: list[list[int]]) -> torch.Tensor:
        experiences = experiences_of(prompts, completions)
        read(policy, encoder, experiences)
        return critic.values(experiences).detach()

    assert not values([[20, 21, 22]]).any()
    (head,) = (module for module in critic._model.modules() if isinstance(module, TwoLayerHead))
    torch.nn.init.normal_(head.out.weight, std=0.2)
    one, other = values([[20, 21, 22]]), values([[20, 25, 22]])
    assert (one[0, :2] - other[0, :2]).abs().max().item() < 1e-5
    assert (one[0, 2] - other[0, 2]).abs().item() > 1e-3
    padded = values([[20, 21, 22], [30, 31, 32, 33, 34]])
    assert (padded[0, :3] - one[0]).abs().max().item() < 1e-4


def test_micro_batches_add_up_to_the_mini_batch(encoder: Encoder, prompts: list[Prompt]) -> None:
    """Loss and gradient are means over all tokens, however they are split; those that count for nothing add nothing."""
    generator = np.random.default_rng(0)
    estimates = [
        Estimate(np.zeros(len(tokens)), generator.normal(size=len(tokens)), np.zeros(0)) for tokens in COMPLETIONS
    ]
    experiences = experiences_of(prompts)
    plain = np.concatenate([0.5 * entry.returns**2 for entry in estimates]).mean()  # of values that are all 0
    found = []
    for split in ([(0, 3)], [(0, 2), (2, 3)]):
        critic = a_critic(encoder, learner_config(value=ValueConfig(backbone="own")))
        for start, end in split:
            critic.loss(experiences[start:end], estimates[start:end], tokens=10.0).backward()
        critic.loss(experiences[:1], estimates[:1], tokens=10.0, counts=False).backward()
        found.append(critic.clip_gradients())
    assert found[0][0] == pytest.approx(plain)
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def explained(estimates: Sequence[Estimate]) -> float:
    return explained_variance([e.values for e in estimates], [e.returns for e in estimates])


def test_estimates_are_advantages_and_returns() -> None:
    """With lambda 1, returns are what is still to be earned, whatever the values."""
    critic = object.__new__(Critic)
    critic.settings = ValueConfig(gae_lambda=1.0)
    rewards, values = [np.array([0.0, 1.0]), np.array([0.5])], [np.array([0.25, 0.5]), np.array([0.5])]
    estimates = critic.estimates(rewards, values)
    assert [entry.returns.tolist() for entry in estimates] == [[1.0, 1.0], [0.5]]
    gains = np.array([0.75, 0.5, 0.0])
    expected = (gains - gains.mean()) / gains.std()
    assert np.concatenate([entry.advantages for entry in estimates]) == pytest.approx(expected)
    assert explained(estimates) == pytest.approx(1 - gains.var() / np.array([1.0, 1.0, 0.5]).var())


@pytest.mark.parametrize("backbone", ["policy", "own"])
def test_values_come_to_their_returns(encoder: Encoder, prompts: list[Prompt], backbone: str) -> None:
    """Rollouts that earn different amounts: explained variance rises from 0 to nearly 1; and a policy that is not part
    of the critic's model is left as it was."""
    policy = a_policy()
    settings = ValueConfig(backbone=backbone, learning_rate=3e-3, clip=10.0, gae_lambda=1.0)  # type: ignore[arg-type]
    critic = a_critic(encoder, learner_config(value=settings), policy)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    experiences = experiences_of(prompts)
    earned = zip(COMPLETIONS, (1.0, 0.0, -0.5), strict=True)
    rewards = [np.append(np.zeros(len(tokens) - 1), at_the_end) for tokens, at_the_end in earned]
    shares = []
    for _ in range(40):
        with torch.no_grad():
            read(policy, encoder, experiences)
            now = critic.values(experiences)
            read(policy, encoder, experiences)
        values = [row[: len(tokens)].double().numpy() for row, tokens in zip(now, COMPLETIONS, strict=True)]
        estimates = critic.estimates(rewards, values)
        critic.loss(experiences, estimates, tokens=10.0).backward()
        critic.clip_gradients()
        critic.optimizer.step()
        critic.optimizer.zero_grad()
        shares.append(explained(estimates))
    assert shares[0] == pytest.approx(0.0, abs=1e-9)
    assert shares[-1] > 0.9
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.state_dict().items())


@pytest.mark.parametrize("backbone", ["policy", "own"])
def test_a_saved_critic_goes_on_as_if_never_saved(
    encoder: Encoder, prompts: list[Prompt], backbone: str, tmp_path: Path
) -> None:
    policy = a_policy()
    experiences = experiences_of(prompts)
    estimates = [an_estimate([0.0] * len(t), [1.0] * len(t)) for t in COMPLETIONS]

    def learn(critic: Critic) -> list[tuple[float, float]]:
        found = []
        for _ in range(3):
            with torch.no_grad():
                read(policy, encoder, experiences)
            critic.loss(experiences, estimates, tokens=10.0).backward()
            found.append(critic.clip_gradients())
            critic.optimizer.step()
            critic.optimizer.zero_grad()
        return found

    settings = ValueConfig(backbone=backbone)  # type: ignore[arg-type]
    critic = a_critic(encoder, learner_config(value=settings), policy)
    first = learn(critic)
    critic.save(tmp_path)
    onward = learn(critic)
    restored = a_critic(encoder, learner_config(value=settings, seed=7), policy)
    restored.load(tmp_path)
    assert learn(restored) == onward
    assert onward[-1][0] < first[0][0]
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("*.bin"))


def test_another_vocabulary_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    other = write_tiny_checkpoint("qwen2_5_vl", tmp_path)
    with pytest.raises(ValueError, match=r"value.checkpoint is .*policy's vocabulary"):
        a_critic(encoder, learner_config(value=ValueConfig(backbone="own", checkpoint=other)))
