"""What the learner measures itself against: the sampler, a reference policy, and the base model under its adapters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from rewards.models.encoding import Encoder
from rewards.records import Experience
from rl.learning.learner import PolicyLearner
from tests.fixtures.learner_config import learner_config
from tests.fixtures.learner_experiences import (
    CHECKPOINT,
    largest_difference,
    of_another_sampler,
    sampled_experiences,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CHECKPOINT)


@pytest.fixture(scope="module")
def experiences() -> list[Experience]:
    return of_another_sampler(sampled_experiences())


def logprobs_of(learner: PolicyLearner, experiences: list[Experience]) -> np.ndarray:
    """Of all tokens, one after another."""
    return np.concatenate(learner.logprobs([e.prompt for e in experiences], [e.token_ids for e in experiences]))


def without_advantage(experiences: list[Experience]) -> list[Experience]:
    return [replace(e, advantages=np.zeros(len(e.token_ids))) for e in experiences]


@pytest.mark.parametrize("values", [{}, {"lora_rank": 4}], ids=["whole", "lora"])
def test_the_divergence_is_the_closed_form(
    values: dict[str, Any], encoder: Encoder, experiences: list[Experience]
) -> None:
    """k3 (http://joschu.net/blog/kl-approx.html) from the first policy; without any advantage it is all of the loss."""
    trl = {"use_bias_correction_kl": False}
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(kl=0.3, learning_rate=3e-4, trl=trl, **values))
    first = logprobs_of(learner, experiences)
    assert learner.step(experiences)["kl"] == pytest.approx(0, abs=1e-8)
    now = logprobs_of(learner, experiences)
    k3 = np.exp(first - now) - (first - now) - 1
    assert k3.mean() > 1e-6
    metrics = learner.step(without_advantage(experiences))
    assert metrics["kl"] == pytest.approx(k3.mean(), rel=1e-2, abs=1e-7)
    assert metrics["loss"] == pytest.approx(0.3 * metrics["kl"], rel=1e-4)


def test_the_reference_is_renewed_in_its_period(encoder: Encoder, experiences: list[Experience]) -> None:
    settings = learner_config(kl=0.1, learning_rate=1e-3, reference_every=2)
    learner = PolicyLearner(CHECKPOINT, encoder, settings)
    logprobs, divergences = [], []
    for _ in range(5):
        logprobs.append(logprobs_of(learner, experiences))
        divergences.append(learner.step(experiences)["kl"])
    for step, reference in enumerate([0, 0, 2, 2, 4]):
        apart = logprobs[reference] - logprobs[step]
        assert divergences[step] == pytest.approx((np.exp(apart) - apart - 1).mean(), rel=1e-3, abs=1e-8), step


def test_asking_the_reference_leaves_the_policy_as_it_is(encoder: Encoder, experiences: list[Experience]) -> None:
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(kl=0.1, learning_rate=1e-3))
    learner.step(experiences)
    before = learner.weights()
    assert learner._reference is not None
    with learner._reference.in_place():
        assert largest_difference(learner.weights(), PolicyLearner(CHECKPOINT, encoder).weights()) == 0.0
    assert largest_difference(learner.weights(), before) == 0.0


def test_a_correction_weighs_what_the_sampler_found_otherwise(encoder: Encoder, experiences: list[Experience]) -> None:
    """The ratio is then to the learner itself, 1 at the start: the loss is a mean of weights times advantages."""
    learner = PolicyLearner(CHECKPOINT, encoder)
    own = learner.logprobs([e.prompt for e in experiences], [e.token_ids for e in experiences])
    apart = [np.array(row) - e.sampler_logprobs for row, e in zip(own, experiences, strict=True)]
    tokens = [np.exp(row) for row in apart]
    rollouts = [np.full(len(row), np.exp(row.sum())) for row in apart]
    expected = {
        "token_truncate": [row.clip(max=1.3) for row in tokens],
        "token_mask": [np.where((row <= 1.3) & (row >= 0.8), row, 0) for row in tokens],
        "sequence_truncate": [row.clip(max=1.3) for row in rollouts],
        "sequence_mask": [np.where((row <= 1.3) & (row >= 0.8), row, 0) for row in rollouts],
    }
    for correction, weights in expected.items():
        settings = learner_config(correction=correction, correction_max=1.3, correction_min=0.8)
        metrics = PolicyLearner(CHECKPOINT, encoder, settings).step(experiences)
        gains = [w * e.advantages for w, e in zip(weights, experiences, strict=True)]
        assert metrics["clipped"] == 0
        assert metrics["loss"] == pytest.approx(-np.concatenate(gains).mean(), rel=1e-3, abs=1e-5), correction
        assert metrics["importance_weight"] == pytest.approx(np.concatenate(weights).mean(), rel=1e-4), correction


def test_with_adapters_only_they_move(encoder: Encoder, experiences: list[Experience], tmp_path: Path) -> None:
    settings = learner_config(lora_rank=4, learning_rate=1e-2, dtype="bfloat16")
    learner = PolicyLearner(CHECKPOINT, encoder, settings)
    kept = {name: p.detach().clone() for name, p in learner._model.named_parameters() if "lora_" not in name}
    assert {p.dtype for p in kept.values()} == {torch.bfloat16}
    before = learner.weights()
    for _ in range(2):
        learner.step(experiences)
    for name, parameter in learner._model.named_parameters():
        assert ("lora_" in name) == parameter.requires_grad
        assert "lora_" in name or torch.equal(parameter, kept[name]), name
    moved = {name for name, weight in learner.weights().items() if not torch.equal(weight, before[name])}
    assert moved and all("language_model" in name and name.endswith("_proj.weight") for name in moved)
    learner.save(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["model.safetensors"], "all that vLLM reads"


def test_merged_weights_are_those_that_peft_merges(
    encoder: Encoder, experiences: list[Experience], tmp_path: Path
) -> None:
    """Both what the engines get and what is saved, from the adapters as PEFT loads them on the base model."""
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(lora_rank=4, learning_rate=1e-2))
    for _ in range(2):
        learner.step(experiences)
    learner.save(tmp_path)
    base = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, tmp_path / "adapters").merge_and_unload().state_dict()
    saved = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    assert largest_difference(learner.weights(), merged) < 1e-6
    assert largest_difference(saved, merged) < 1e-6
    on_disk = load_file(tmp_path / "adapters" / "adapter_model.safetensors")
    assert largest_difference(learner.adapters(), on_disk) == 0.0
    again = PolicyLearner(str(tmp_path), encoder)
    assert np.abs(logprobs_of(again, experiences) - logprobs_of(learner, experiences)).max() < 1e-4


def test_a_frozen_vision_tower_stays(encoder: Encoder, experiences: list[Experience]) -> None:
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(freeze_vision=True))
    before = learner.weights()
    learner.step(experiences)
    after = learner.weights()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved and not any("visual" in name for name in moved)
