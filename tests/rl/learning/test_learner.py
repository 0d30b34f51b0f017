"""The learner against plain PyTorch: the same updates from the formulas, written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.autograd import graph
from transformers import AutoModelForImageTextToText

from rewards.models.encoding import Encoder
from rewards.records import Experience
from rl.config.learner import ValueConfig
from rl.learning.learner import PolicyLearner
from tests.fixtures.learner_config import learner_config
from tests.fixtures.learner_experiences import (
    CHECKPOINT,
    going_on,
    largest_difference,
    of_another_sampler,
    sampled_experiences,
)
from tests.fixtures.policy_objectives import (
    CLIP,
    MOST_TOKENS,
    Objective,
    cispo,
    dapo,
    dr_grpo,
    grpo,
    gspo,
    luspo,
    sapo,
    vespo,
)
from tests.fixtures.rounding import assert_same_training, state_of

pytestmark = pytest.mark.slow

CUTS: list[dict[str, Any]] = [
    {"micro_batch": 12},
    {"micro_batch": 5},
    {"micro_batch": 5, "pack": False},
    {"micro_batch_tokens": 200},
    {"micro_batch_tokens": 200, "pack": False},
]
PACKED: list[dict[str, Any]] = [
    {"loss": "grpo", "correction": "sequence_mask", "kl": 0.1},
    {"loss": "dapo", "lora_rank": 4, "gradient_checkpointing": True},
    {"loss": "cispo", "trl": {"top_entropy_quantile": 0.6}, "freeze_vision": True},
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CHECKPOINT)


@pytest.fixture(scope="module")
def experiences() -> list[Experience]:
    """Some go on from a prefix, which they do not learn from."""
    found = of_another_sampler(sampled_experiences())
    return [going_on(one, place % 3 * 4) for place, one in enumerate(found)]


def plain_update(
    encoder: Encoder, experiences: list[Experience], rate: float, objective: Objective
) -> tuple[float, float, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Loss, gradient length, weights and AdamW's state after one step on an objective of log-probabilities, log-ratios
    and advantages, one tensor a rollout."""
    model = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    logprobs, ratios, advantages = [], [], []
    for experience in experiences:
        batch = encoder.batch([experience.prompt], [experience.path])
        logits = model(**batch.model_inputs()).logits[0, -len(experience.token_ids) - 1 : -1]
        logprobs.append(logits.log_softmax(-1)[torch.arange(len(experience.token_ids)), list(experience.token_ids)])
        ratios.append(logprobs[-1] - torch.tensor(experience.sampler_logprobs, dtype=torch.float32))
        advantages.append(torch.tensor(experience.advantages, dtype=torch.float32))
    loss = -objective(logprobs, ratios, advantages)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    weights = dict(model.named_parameters())
    return loss.item(), norm.item(), weights, state_of(optimizer, weights)


SEQUENCE = {"importance_sampling_level": "sequence"}
FORMULAS: list[tuple[str, dict[str, Any], Objective]] = [
    ("dapo", {}, dapo),
    ("bnpo", {}, dapo),
    ("grpo", {}, grpo),
    ("dr_grpo", {}, dr_grpo),
    ("grpo", SEQUENCE, gspo),
    ("luspo", SEQUENCE, luspo),
    ("cispo", {"epsilon_high": 1.1}, cispo),
    ("sapo", {}, sapo),
    ("vespo", {}, vespo),
]


@pytest.mark.parametrize(("loss", "trl", "objective"), FORMULAS, ids=lambda value: getattr(value, "__name__", None))
def test_one_step_is_the_formulas_step(
    loss: Any,
    trl: dict[str, Any],
    objective: Objective,
    encoder: Encoder,
    experiences: list[Experience],
    tmp_path: Path,
) -> None:
    """In micro-batches of uneven size, which must not matter."""
    settings = learner_config(
        loss=loss, trl=trl, learning_rate=1e-3, micro_batch=5, clip=CLIP, max_completion_tokens=MOST_TOKENS
    )
    learner = PolicyLearner(CHECKPOINT, encoder, settings)
    before = learner.weights()
    metrics = learner.step(experiences)
    learner.save(tmp_path)
    plain_loss, norm, expected, state = plain_update(encoder, experiences, 1e-3, objective)
    assert metrics["loss"] == pytest.approx(plain_loss, rel=1e-4, abs=1e-6)
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-4)
    ours = learner.weights()
    assert largest_difference(before, ours) > 5e-4
    states = load_file(tmp_path / "optimizer" / "state.safetensors"), state
    assert_same_training({name: ours[name] for name in expected}, expected, states, 1e-3)


def test_off_policy_ratios_are_clipped(encoder: Encoder) -> None:
    """Rollouts of a policy that found every token 40 % less likely: positive advantages are all clipped away."""
    far = [
        replace(e, sampler_logprobs=tuple(np.array(e.sampler_logprobs) - 0.5), advantages=np.abs(e.advantages))
        for e in sampled_experiences()
    ]
    learner = PolicyLearner(CHECKPOINT, encoder)
    before = learner.weights()
    metrics = learner.step(far)
    assert metrics["clipped"] == 1.0
    assert metrics["grad_norm"] == 0.0
    assert largest_difference(before, learner.weights()) == 0.0


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "vespo", "luspo"])
def test_micro_batches_do_not_change_the_update(loss: Any, encoder: Encoder, experiences: list[Experience]) -> None:
    """With everything on that could depend on them."""
    trl = {"top_entropy_quantile": 0.6, "entropy_coef": 0.1, "off_policy_mask_threshold": 0.05}
    results = []
    for cut in CUTS:
        settings = learner_config(loss=loss, trl=trl, kl=0.1, correction="token_truncate", correction_max=1.2, **cut)
        results.append(PolicyLearner(CHECKPOINT, encoder, settings).step(experiences))
    for name in ("loss", "grad_norm", "entropy", "clipped", "importance_weight"):
        others = [result[name] for result in results[1:]]
        assert others == pytest.approx([results[0][name]] * len(others), rel=2e-4), name


@pytest.mark.parametrize("settings", PACKED, ids=", ".join)
def test_a_packed_step_is_the_step_of_its_rows(
    settings: dict[str, Any], encoder: Encoder, experiences: list[Experience]
) -> None:
    """Twelve rollouts of three prompts; in double precision, since single precision is off by 1e-5 on some processors,
    either way."""
    rows, packed = (
        PolicyLearner(CHECKPOINT, encoder, learner_config(pack=pack, micro_batch=8, **settings))
        for pack in (False, True)
    )
    for learner in (rows, packed):
        learner._model.double()
    assert (rows.packs(), packed.packs()) == (False, True)
    read = [tokens_read(learner) for learner in (rows, packed)]
    metrics, others = (learner.step(experiences) for learner in (rows, packed))
    for name in metrics.keys() - {"seconds", "flops_utilisation"}:
        assert metrics[name] == pytest.approx(others[name], rel=1e-6, abs=1e-9), name
    assert sum(read[1]) < 0.8 * sum(read[0])
    prompts, answers = [e.prompt for e in experiences], [e.path for e in experiences]
    for row, other in zip(rows.logprobs(prompts, answers), packed.logprobs(prompts, answers), strict=True):
        assert row == pytest.approx(other, abs=1e-4), "after a step of Adam, which makes much of little"


def tokens_read(learner: PolicyLearner) -> list[int]:
    """Fills up with the tokens of every pass, padding included."""
    found: list[int] = []
    embeddings = learner._model.get_input_embeddings()
    embeddings.register_forward_hook(lambda module, given, states: found.append(states.shape[:2].numel()))
    return found


@pytest.mark.parametrize("most", [0.995, 0.99])
def test_padding_has_no_part_in_the_weight_of_a_rollout(most: float, encoder: Encoder) -> None:
    """Padding has to stay at 1, also where no weight may be that large; `vespo` multiplies the weights of a row."""
    nearly_its_own = of_another_sampler(sampled_experiences(), spread=0.002)
    losses = []
    for size in (12, 5, 1):
        settings = learner_config(loss="vespo", micro_batch=size, correction="token_truncate", correction_max=most)
        losses.append(PolicyLearner(CHECKPOINT, encoder, settings).step(nearly_its_own)["loss"])
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=2e-4)


def test_mini_batches_and_epochs_are_optimizer_steps(encoder: Encoder, experiences: list[Experience]) -> None:
    """Two epochs of one mini-batch are the same rollouts twice, with the sampler's log-probabilities both times."""
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(epochs=2))
    metrics = learner.step(experiences)
    twice = PolicyLearner(CHECKPOINT, encoder)
    apart = [twice.step(experiences) for _ in range(2)]
    assert largest_difference(learner.weights(), twice.weights()) == 0.0
    assert metrics["loss"] == pytest.approx(np.mean([one["loss"] for one in apart]))
    assert (learner.version, twice.version) == (1, 2)
    small = PolicyLearner(CHECKPOINT, encoder, learner_config(mini_batches=3, learning_rate=1e-3))
    again = PolicyLearner(CHECKPOINT, encoder, learner_config(mini_batches=3, learning_rate=1e-3))
    small.step(experiences)
    again.step(experiences)
    assert largest_difference(small.weights(), again.weights()) == 0.0, "their order is the seed's"
    moved = largest_difference(PolicyLearner(CHECKPOINT, encoder).weights(), small.weights())
    assert moved > 2e-3, "three steps of Adam go further than one"


def test_a_loss_that_is_not_finite_leaves_the_weights(
    encoder: Encoder, experiences: list[Experience], tmp_path: Path
) -> None:
    """A few policy steps like that are left out and counted, but not too many in a row, saved and resumed or not."""
    settings = learner_config(max_skipped=2, trl={"use_adaptive_entropy": True})
    learner, fresh = (PolicyLearner(CHECKPOINT, encoder, settings) for _ in range(2))
    before = learner.weights()
    broken = [replace(e, advantages=np.full(len(e.token_ids), np.nan)) for e in experiences]
    for _ in range(2):
        metrics = learner.step(broken)
        assert metrics["skipped"] == 1 and "loss" not in metrics
    assert largest_difference(before, learner.weights()) == 0.0 and learner.version == 2
    learner.save(tmp_path)
    resumed = PolicyLearner(CHECKPOINT, encoder, settings)
    resumed.load(tmp_path)
    with pytest.raises(FloatingPointError, match="policy update 3: loss nan, grad_norm nan, 3 in a row like that"):
        resumed.step(broken)
    assert largest_difference(before, resumed.weights()) == 0.0 and resumed.version == 2
    assert learner.step(experiences)["skipped"] == 0
    fresh.step(experiences)
    assert largest_difference(fresh.weights(), learner.weights()) == 0.0, "as if the broken ones had never been"
    learner.step(broken)


def test_of_several_optimizer_steps_only_the_broken_one_is_left_out(
    encoder: Encoder, experiences: list[Experience]
) -> None:
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(mini_batches=3, max_skipped=0))
    before = learner.weights()
    endless = replace(experiences[0], advantages=np.full(len(experiences[0].token_ids), np.inf))
    metrics = learner.step([endless, *experiences[1:]])
    assert metrics["skipped"] == 1 and np.isfinite([metrics["loss"], metrics["grad_norm"], metrics["entropy"]]).all()
    moved = learner.weights()
    assert largest_difference(before, moved) > 0 and all(bool(tensor.isfinite().all()) for tensor in moved.values())


RESUMED: list[dict[str, Any]] = [
    {},
    {"lora_rank": 4, "kl": 0.1, "reference_every": 2},
    {"dtype": "bfloat16", "mini_batches": 2, "kl": 0.1, "reference_every": 2, "freeze_vision": True},
    {"trl": {"use_adaptive_entropy": True, "entropy_target": 1.0, "entropy_coef_delta": 0.1}},
    {"optimizer": "adamw_8bit", "algorithm": "ppo", "value": ValueConfig(backbone="own")},
]


@pytest.mark.parametrize("values", RESUMED, ids=["plain", "lora", "bfloat16", "adaptive", "8 bit"])
def test_a_saved_learner_goes_on_as_if_never_saved(
    values: dict[str, Any], encoder: Encoder, experiences: list[Experience], tmp_path: Path
) -> None:
    settings = learner_config(learning_rate=1e-3, **values)
    learner = PolicyLearner(CHECKPOINT, encoder, settings)
    for _ in range(3):
        learner.step(experiences)
    learner.save(tmp_path)
    restored = PolicyLearner(CHECKPOINT, encoder, settings)
    restored.load(tmp_path)
    assert restored.version == 3
    left, right = learner.step(experiences), restored.step(experiences)
    assert {k: v for k, v in left.items() if k not in ("seconds", "flops_utilisation")} == {
        k: v for k, v in right.items() if k not in ("seconds", "flops_utilisation")
    }
    assert largest_difference(learner.weights(), restored.weights()) == 0.0
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("*.bin"))


def test_what_had_no_gradient_before_it_was_saved_begins_anew(
    encoder: Encoder, experiences: list[Experience], tmp_path: Path
) -> None:
    """The vision tower, before the first picture."""
    settings = learner_config(learning_rate=1e-3)
    learner, restored = (PolicyLearner(CHECKPOINT, encoder, settings) for _ in range(2))
    learner.step([replace(e, prompt=replace(e.prompt, id=f"text {e.prompt.id}", images=())) for e in experiences])
    learner.save(tmp_path)
    restored.load(tmp_path)
    for one in (learner, restored):
        one.step(experiences)
    assert largest_difference(learner.weights(), restored.weights()) == 0.0


def test_a_step_without_rollouts_counts_and_teaches_nothing(encoder: Encoder) -> None:
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(kl=0.1, reference_every=1))
    before = learner.weights()
    assert learner.step([])["tokens"] == 0
    assert learner.version == 1 and largest_difference(before, learner.weights()) == 0.0


def test_small_steps_are_not_lost_in_bfloat16(encoder: Encoder, experiences: list[Experience], tmp_path: Path) -> None:
    """A step of 1e-6 is far below a bfloat16 weight's last digit; what is learned adds up in float32."""
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(dtype="bfloat16", learning_rate=1e-6))
    plain = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32).state_dict()
    for _ in range(3):
        metrics = learner.step(experiences)
    assert np.isfinite(metrics["loss"])
    assert {weight.dtype for weight in learner.weights().values()} == {torch.bfloat16}, "the engines' number format"
    learner.save(tmp_path)
    saved = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    moved = torch.cat([(saved[name] - plain[name]).abs().flatten() for name in plain])
    assert 1e-6 < moved.max().item() < 4e-6, "three steps of Adam"
    assert (moved > 5e-7).float().mean() > 0.3, "of nearly all weights that any token used"


def test_computation_in_bfloat16_is_near_that_in_float32(encoder: Encoder, experiences: list[Experience]) -> None:
    pair = [PolicyLearner(CHECKPOINT, encoder, learner_config(dtype=kind)) for kind in ("float32", "bfloat16")]
    prompts, completions = [e.prompt for e in experiences], [e.path for e in experiences]
    exact, rough = (np.concatenate(learner.logprobs(prompts, completions)) for learner in pair)
    assert 1e-4 < np.abs(exact - rough).max() < 0.2
    assert np.abs(exact - rough).mean() < 0.02
    exact_step, rough_step = (learner.step(experiences) for learner in pair)
    assert rough_step["loss"] == pytest.approx(exact_step["loss"], abs=0.01)
    assert rough_step["grad_norm"] == pytest.approx(exact_step["grad_norm"], rel=0.05)


def test_gradient_checkpointing_changes_nothing(encoder: Encoder, experiences: list[Experience]) -> None:
    results = []
    for checkpointing in (False, True):
        learner = PolicyLearner(CHECKPOINT, encoder, learner_config(gradient_checkpointing=checkpointing))
        metrics = learner.step(experiences)
        results.append((metrics["loss"], metrics["grad_norm"]))
        assert learner._model.is_gradient_checkpointing == checkpointing
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_offloading_takes_each_layers_input_elsewhere_and_changes_nothing(
    encoder: Encoder, experiences: list[Experience], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[torch.Size] = []

    class Watched(graph.save_on_cpu):
        def __init__(self) -> None:
            super().__init__()
            pack = self.pack_hook
            self.pack_hook = lambda tensor: (taken.append(tensor.shape), pack(tensor))[1]

    monkeypatch.setattr(graph, "save_on_cpu", Watched)
    results = []
    for offload in (False, True):
        config = learner_config(gradient_checkpointing=True, activation_offload=offload)
        learner = PolicyLearner(CHECKPOINT, encoder, config)
        assert not taken
        metrics = learner.step(experiences)
        results.append((metrics["loss"], metrics["grad_norm"]))
    assert results[0] == results[1]
    text = learner._model.config.get_text_config()
    assert sum(len(shape) == 3 and shape[-1] == text.hidden_size for shape in taken) >= text.num_hidden_layers
    assert all(shape[-1] != text.intermediate_size for shape in taken if len(shape) == 3), "it is computed again"


def test_the_learning_rate_follows_its_schedule_over_a_resumption_too(
    encoder: Encoder, experiences: list[Experience], tmp_path: Path
) -> None:
    settings = {"schedule": "linear", "warmup_steps": 2, "learning_rate": 1e-3}
    config = learner_config(**settings).model_copy(update={"steps": 6})
    learner = PolicyLearner(CHECKPOINT, encoder, config)
    start = learner.weights()
    rates = [learner.step(experiences)["learning_rate"]]
    assert largest_difference(start, learner.weights()) == 0.0, "it begins at 0"
    rates += [learner.step(experiences)["learning_rate"] for _ in range(2)]
    learner.save(tmp_path)
    again = PolicyLearner(CHECKPOINT, encoder, config)
    again.load(tmp_path)
    rates += [
        again.step(experiences)["learning_rate"],
        again.step([])["tokens"],
        again.step(experiences)["learning_rate"],
    ]
    assert rates == pytest.approx([0, 5e-4, 1e-3, 7.5e-4, 0, 2.5e-4])
    assert "learning_rate" not in PolicyLearner(CHECKPOINT, encoder).step(experiences)
