"""The learner against plain PyTorch: the same update from the formula, written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from rewards.encoding import Encoder
from rewards.records import Experience, SamplingRequest
from rl.engines.hf_engine import HfEngine
from rl.experiment import SHIPPED_POLICY
from rl.learner import PolicyLearner
from rl.tasks.grid import GridTask

CHECKPOINT = str(SHIPPED_POLICY)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CHECKPOINT)


@pytest.fixture(scope="module")
def experiences() -> list[Experience]:
    """Twelve sampled rollouts of three prompts, with advantages that differ from token to token."""
    task, generator = GridTask(), np.random.default_rng(0)
    prompts = [task.prompt("train", index) for index in range(3)]
    samples = HfEngine(CHECKPOINT).sample([SamplingRequest(prompt, n=4, seed=1) for prompt in prompts])
    return [
        Experience(prompt, s.token_ids, s.logprobs, generator.normal(size=len(s.token_ids)), 0)
        for prompt, group in zip(prompts, samples, strict=True)
        for s in group
    ]


def plain_update(encoder: Encoder, experiences: list[Experience], rate: float, clip: float) -> dict[str, torch.Tensor]:
    """One AdamW step on the clipped objective, a mean over all tokens of the batch (DAPO, arXiv 2503.14476, eq. 8)."""
    model = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    total = sum(len(experience.token_ids) for experience in experiences)
    objective = torch.zeros(())
    for experience in experiences:
        batch = encoder.batch([experience.prompt], [experience.token_ids])
        logits = model(**batch.model_inputs()).logits[0, batch.prompt_ids.shape[1] - 1 : -1]
        logprobs = logits.log_softmax(-1)[torch.arange(len(experience.token_ids)), list(experience.token_ids)]
        ratio = (logprobs - torch.tensor(experience.sampler_logprobs)).exp()
        advantage = torch.tensor(experience.advantages, dtype=torch.float32)
        gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
        objective = objective + gain.sum() / total
    (-objective).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return model.state_dict()


def largest_difference(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    assert left.keys() == right.keys()
    return max((left[name] - right[name]).abs().max().item() for name in left)


def test_one_step_is_the_formulas_step(encoder: Encoder, experiences: list[Experience]) -> None:
    learner = PolicyLearner(CHECKPOINT, encoder, loss="dapo", learning_rate=1e-3, micro_batch=5)
    before = learner.weights()
    learner.step(experiences)
    expected = plain_update(encoder, experiences, rate=1e-3, clip=0.2)
    moved = largest_difference(before, expected)
    # Adam turns a rounding error in a near-zero gradient into a step of up to the learning rate, so compare the
    # weights that really moved, and all of them in the mean.
    ours, theirs = learner.weights(), expected
    errors = torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in ours])
    assert moved > 5e-4
    assert errors.mean() < 1e-6
    assert (errors > 1e-4).float().mean() < 1e-3


def test_off_policy_ratios_are_clipped(encoder: Encoder, experiences: list[Experience]) -> None:
    """Rollouts of a policy that found every token 40 % less likely: positive advantages are all clipped away."""
    far = [
        Experience(e.prompt, e.token_ids, tuple(np.array(e.sampler_logprobs) - 0.5), np.abs(e.advantages), 0)
        for e in experiences
    ]
    learner = PolicyLearner(CHECKPOINT, encoder)
    before = learner.weights()
    metrics = learner.step(far)
    assert metrics["clipped"] == 1.0
    assert metrics["grad_norm"] == 0.0
    assert largest_difference(before, learner.weights()) == 0.0


def test_micro_batches_do_not_change_the_update(encoder: Encoder, experiences: list[Experience]) -> None:
    results = []
    for size in (12, 5):
        learner = PolicyLearner(CHECKPOINT, encoder, loss="dapo", micro_batch=size)
        metrics = learner.step(experiences)
        results.append((metrics["loss"], metrics["grad_norm"]))
    assert np.allclose(results[0], results[1], rtol=1e-4)


def test_a_loss_that_is_not_finite_leaves_the_weights(encoder: Encoder, experiences: list[Experience]) -> None:
    learner = PolicyLearner(CHECKPOINT, encoder)
    before = learner.weights()
    broken = [
        Experience(e.prompt, e.token_ids, e.sampler_logprobs, np.full(len(e.token_ids), np.nan), 0) for e in experiences
    ]
    with pytest.raises(FloatingPointError, match="policy update 1: loss nan"):
        learner.step(broken)
    assert largest_difference(before, learner.weights()) == 0.0 and learner.version == 0
    learner.step(experiences)
    assert learner.version == 1


def test_a_saved_learner_goes_on_as_if_never_saved(
    encoder: Encoder, experiences: list[Experience], tmp_path: Path
) -> None:
    learner = PolicyLearner(CHECKPOINT, encoder)
    learner.step(experiences)
    learner.save(tmp_path)
    restored = PolicyLearner(CHECKPOINT, encoder)
    restored.load(tmp_path)
    assert restored.version == 1
    assert learner.step(experiences) == restored.step(experiences)
    assert largest_difference(learner.weights(), restored.weights()) == 0.0
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("*.bin"))
