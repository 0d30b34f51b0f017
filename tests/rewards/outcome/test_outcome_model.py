"""The outcome reward model: Bradley and Terry's loss, one reward an answer, and it learns what is preferred."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rewards.models.encoding import Encoder
from rewards.models.runtime import Runtime
from rewards.outcome import outcome_model
from rewards.outcome.config import OutcomeModelConfig
from rewards.outcome.outcome_model import OutcomeModel, bradley_terry_loss, open_outcome_model
from rewards.outcome.preferences import Preference, pair_accuracy
from rl.files.named_checkpoint import SHIPPED_POLICY
from tests.fixtures.builders import a_rollout
from tests.fixtures.preference_pairs import grid_preferences
from tests.fixtures.rounding import assert_same_direction, gradients_of

pytestmark = pytest.mark.slow

CHECKPOINT = str(SHIPPED_POLICY)
FAST = OutcomeModelConfig(learning_rate=2e-3, batch_size=8)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CHECKPOINT)


@pytest.fixture(scope="module")
def pairs(encoder: Encoder) -> list[Preference]:
    return grid_preferences(encoder, "train", range(16))


@pytest.fixture(scope="module")
def taught(encoder: Encoder, pairs: list[Preference]) -> OutcomeModel:
    model = OutcomeModel(CHECKPOINT, encoder, FAST)
    model.train(pairs)
    return model


def test_the_loss_is_bradley_and_terrys() -> None:
    chosen, rejected = torch.tensor([2.0, -1.0, 0.0, 50.0, -50.0]), torch.tensor([0.5, 1.0, 0.0, 0.0, 50.0])
    expected = [math.log1p(math.exp(r - c)) for c, r in zip(chosen.tolist(), rejected.tolist(), strict=True)]
    assert bradley_terry_loss(chosen, rejected).tolist() == pytest.approx(expected)
    ends = [torch.tensor([1.5, -0.5], dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(bradley_terry_loss, (ends[0], ends[1] * 0.3))


def test_packed_rows_teach_and_score_as_rows_do(encoder: Encoder, pairs: list[Preference]) -> None:
    """Two answers to each prompt, in one optimizer step."""
    keys: dict[str, Any] = {"learning_rate": 1e-5, "micro_batch_tokens": 400, "batch_size": len(pairs)}
    rows, packed = (OutcomeModel(CHECKPOINT, encoder, OutcomeModelConfig(pack=pack, **keys)) for pack in (False, True))
    read: list[list[int]] = [[], []]
    for model, found in zip((rows, packed), read, strict=True):
        with torch.no_grad():  # a new head is 0, and no gradient comes from it to what is below
            model._scorer.head.out.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
        embeddings = model._scorer.backbone.get_input_embeddings()
        embeddings.register_forward_hook(lambda _, given, states, found=found: found.append(states.shape[:2].numel()))
    assert rows.train(pairs) == pytest.approx(packed.train(pairs), rel=1e-5, abs=1e-6)
    assert_same_direction(gradients_of(rows._scorer), gradients_of(packed._scorer), 1e-5)
    assert rows.margins(pairs) == pytest.approx(packed.margins(pairs), abs=1e-5)
    assert sum(read[1]) < 0.95 * sum(read[0])


def test_the_gradient_of_an_update_is_that_of_the_mean_loss(
    encoder: Encoder, pairs: list[Preference], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against finite differences of the loss of all pairs, although they went through the model two by two."""
    monkeypatch.setattr(outcome_model, "MAX_GRAD_NORM", 1e9)
    settings = OutcomeModelConfig(learning_rate=1e-12, batch_size=16, micro_batch_tokens=300)
    model = OutcomeModel(CHECKPOINT, encoder, settings)
    head = model._scorer.head
    with torch.no_grad():
        head.out.weight.normal_(generator=torch.Generator().manual_seed(0))
    report = model.train(pairs)
    assert head.out.weight.grad is not None and head.hidden.weight.grad is not None

    def loss() -> float:
        return float(np.mean(np.log1p(np.exp(-model.margins(pairs)))))

    assert report["loss"] == pytest.approx(loss(), rel=1e-5)
    assert report["accuracy"] == pytest.approx(np.mean(model.margins(pairs) > 0))
    for weight, place in ((head.out.weight, (0, 3)), (head.hidden.weight, (2, 5)), (head.hidden.bias, (1,))):
        assert weight.grad is not None
        gradient, step = weight.grad[place].item(), 0.02
        losses = []
        for move in (step, -2 * step, step):
            with torch.no_grad():
                weight[place] += move
            losses.append(loss())
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(gradient, abs=2e-4 + 0.02 * abs(gradient))


def test_a_new_model_has_no_opinion(encoder: Encoder, pairs: list[Preference]) -> None:
    model = OutcomeModel(CHECKPOINT, encoder, FAST)
    assert model.version == 0 and np.all(model.margins(pairs) == 0)
    rollouts = [a_rollout(tokens=pair.chosen) for pair in pairs]
    assert model.score([pair.prompt for pair in pairs], rollouts).tolist() == [0.5] * len(pairs)
    assert model.rewards([], []).shape == (0,) and model.train([])["skipped"] == 0 and model.version == 0


def test_a_score_is_the_sigmoid_of_the_reward_whoever_is_beside(
    encoder: Encoder, pairs: list[Preference], taught: OutcomeModel
) -> None:
    prompts = [pair.prompt for pair in pairs] * 2
    answers = [pair.chosen for pair in pairs] + [pair.rejected[:-7] for pair in pairs]
    rewards = taught.rewards(prompts, answers)
    alone = [taught.rewards([prompt], [answer])[0] for prompt, answer in zip(prompts, answers, strict=True)]
    assert rewards == pytest.approx(alone, abs=1e-5) and np.std(rewards) > 1e-3
    scores = taught.score(prompts, [a_rollout(tokens=answer) for answer in answers])
    assert scores == pytest.approx([1 / (1 + math.exp(-reward)) for reward in rewards])
    prompt, answer = prompts[0], answers[0]
    ends = [taught.rewards([prompt], [answer[:length]])[0] for length in (0, 1, len(answer))]
    assert len(set(ends)) == 3, "the last token decides where it is read, and an answer may be empty"


def test_the_reward_depends_on_prompt_and_picture(pairs: list[Preference], taught: OutcomeModel) -> None:
    pair, other = pairs[0], pairs[1]
    elsewhere = replace(pair.prompt, id="other picture", images=other.prompt.images)
    asked = replace(pair.prompt, id="other question", question=other.prompt.question)
    rewards = taught.rewards([pair.prompt, elsewhere, asked], [pair.chosen] * 3)
    assert len(set(rewards.tolist())) == 3


def test_a_saved_model_goes_on_as_if_never_saved(
    encoder: Encoder, pairs: list[Preference], taught: OutcomeModel, tmp_path: Path
) -> None:
    taught.save(tmp_path)
    restored, opened = (
        OutcomeModel(CHECKPOINT, encoder, FAST, Runtime(seed=1)),
        open_outcome_model(str(tmp_path), Encoder(str(tmp_path)), FAST),
    )
    restored.load(tmp_path)
    kept = taught.margins(pairs)
    for model in (restored, opened):
        assert np.array_equal(model.margins(pairs), kept) and model.version == taught.version
    reports = [model.train(pairs) for model in (taught, restored, opened)]
    assert reports[0] == reports[1] == reports[2]
    assert np.array_equal(restored.margins(pairs), taught.margins(pairs)) and not np.array_equal(
        kept, taught.margins(pairs)
    )
    assert restored.version == opened.version == taught.version
    assert not list(tmp_path.glob("*.bin")) and not list(tmp_path.glob("*.pt")), "nothing to unpickle"


def test_equal_seeds_give_equal_models(encoder: Encoder, pairs: list[Preference]) -> None:
    reports = []
    for seed in (0, 0, 1):
        model = OutcomeModel(CHECKPOINT, encoder, FAST, Runtime(seed=seed))
        torch.rand(3)  # whatever else draws numbers
        model.train(pairs[:8])
        reports.append(model.train(pairs[:8])["loss"])
    assert reports[0] == reports[1] != reports[2]


def test_a_loss_that_is_no_number_changes_nothing(encoder: Encoder, pairs: list[Preference]) -> None:
    model = OutcomeModel(CHECKPOINT, encoder, FAST)
    model.train(pairs[:8])
    before = model.margins(pairs)

    def poison(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output * float("nan")

    hook = model._scorer.head.register_forward_hook(poison)
    report = model.train(pairs[:8])
    hook.remove()
    assert report["skipped"] == 1 and math.isnan(report["loss"]) and model.version == 1
    assert np.array_equal(model.margins(pairs), before)
    assert model.train(pairs[:8])["skipped"] == 0


def test_a_frozen_vision_tower_stays_as_it_is(encoder: Encoder, pairs: list[Preference]) -> None:
    moved = {}
    for frozen in (True, False):
        model = OutcomeModel(CHECKPOINT, encoder, FAST.model_copy(update={"freeze_vision": frozen}))
        before = {name: tensor.clone() for name, tensor in model._scorer.named_parameters()}
        model.train(pairs)
        model.train(pairs)
        moved[frozen] = {
            "visual" if ".visual." in name else "rest"
            for name, tensor in model._scorer.named_parameters()
            if not torch.equal(tensor, before[name])
        }
    assert moved == {True: {"rest"}, False: {"rest", "visual"}}


def test_it_learns_what_it_is_told(encoder: Encoder, pairs: list[Preference]) -> None:
    model = OutcomeModel(CHECKPOINT, encoder, FAST)
    reports = [model.train(pairs) for _ in range(20)]
    assert reports[-1]["loss"] < 0.3 < reports[0]["loss"] and model.version == 20
    assert pair_accuracy(model.margins(pairs)) > 0.9


def test_what_it_learned_holds_for_prompts_it_has_not_seen(encoder: Encoder) -> None:
    """Wrong answers whose every step is wrong: with 128 pairs, chance is 0.5 with a standard deviation of 0.044."""
    seen, unseen = (
        grid_preferences(encoder, "train", range(768), 3.0),
        grid_preferences(encoder, "heldout", range(128), 3.0),
    )
    model = OutcomeModel(CHECKPOINT, encoder, OutcomeModelConfig(learning_rate=1e-3, batch_size=16))
    for _ in range(2):
        model.train(seen)
    assert pair_accuracy(model.margins(unseen)) > 0.65
