"""The reward model: one pass equals many, and it learns what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from rewards.models.encoding import Encoder
from rewards.process_model.config import MPRMConfig
from rewards.process_model.labels import hard
from rewards.process_model.mprm import LIKELIHOOD_RATE, MPRM, open_mprm
from rewards.process_model.saved import MPRM_FILE
from rewards.records import Annotated, Prompt, Rollout, SamplingRequest, StepCounts
from rewards.verification.verifiers import exact
from rl.engines.hf_engine import HfEngine
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.rollouts.making import make_rollouts
from rl.tasks.grid import GridTask
from tests.fixtures.rounding import assert_same_direction, gradients_of

pytestmark = pytest.mark.slow

CHECKPOINT = str(SHIPPED_POLICY)
PACKED: list[dict[str, Any]] = [
    {"input_format": "rollout", "likelihood": True, "head": "beta"},
    {"input_format": "chat"},
    {"input_format": "inline", "head": "value"},
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CHECKPOINT)


@pytest.fixture(scope="module")
def sampled(encoder: Encoder) -> tuple[list[Prompt], list[Rollout]]:
    task = GridTask()
    prompts = [task.prompt("train", index) for index in range(8)]
    samples = HfEngine(CHECKPOINT).sample([SamplingRequest(prompt, n=4, seed=1) for prompt in prompts])
    rollouts = make_rollouts(prompts, samples, encoder, exact)
    return [prompts[rollout.group] for rollout in rollouts], rollouts


def test_it_computes_in_its_own_number_format_beside_a_learner_in_bfloat16(
    encoder: Encoder, sampled: tuple[list[Prompt], list[Rollout]]
) -> None:
    """Accelerate's is the whole process's, and that of whoever came first."""
    prompts, rollouts = (each[:4] for each in sampled)
    found = []
    for policys in ("no", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)
        Accelerator(cpu=True, mixed_precision=policys)
        found.append(MPRM(CHECKPOINT, encoder).score(prompts, rollouts))
    AcceleratorState._reset_state(reset_partial_state=True)
    for alone, beside in zip(*found, strict=True):
        assert np.array_equal(alone.scores, beside.scores)


def with_first_step_wrong(prompt: Prompt, rollout: Rollout) -> Annotated:
    """Wrong from the first step on for half of the prompts, right for the others; the last step is missing."""
    sampled = np.full(len(rollout.steps), 4)
    sampled[-1] = 0
    correct = np.full(len(rollout.steps), int(prompt.id.split("/")[-1]) % 2 * 3)
    return Annotated(prompt, rollout, StepCounts(np.minimum(correct, sampled), sampled, 0))


def test_one_pass_scores_each_step_as_if_nothing_came_after(
    encoder: Encoder, sampled: tuple[list[Prompt], list[Rollout]]
) -> None:
    prompts, rollouts = sampled
    model = MPRM(CHECKPOINT, encoder, hard, MPRMConfig(likelihood=True, learning_rate=1e-3))
    model.train([with_first_step_wrong(prompt, rollout) for prompt, rollout in zip(prompts, rollouts, strict=True)])
    for prompt, rollout, scores in zip(prompts[:6], rollouts[:6], model.score(prompts[:6], rollouts[:6]), strict=True):
        assert scores.scores.shape == (len(rollout.steps),) and scores.mprm_version == 1
        for position, span in enumerate(rollout.steps):
            cut = Rollout(
                **{
                    **vars(rollout),
                    "token_ids": rollout.token_ids[: span.end],
                    "steps": rollout.steps[: position + 1],
                }
            )
            assert model.score([prompt], [cut])[0].scores[-1] == pytest.approx(scores.scores[position], abs=1e-5)


@pytest.mark.parametrize("settings", PACKED, ids=lambda settings: settings["input_format"])
def test_packed_rows_teach_and_score_as_rows_do(
    settings: dict[str, Any], sampled: tuple[list[Prompt], list[Rollout]]
) -> None:
    prompts, rollouts = sampled
    lessons = [with_first_step_wrong(prompt, rollout) for prompt, rollout in zip(prompts, rollouts, strict=True)]
    read: list[int] = []
    metrics, scores, gradients = [], [], []
    for pack in (False, True):
        keys = MPRMConfig(pack=pack, learning_rate=1e-5, micro_batch_tokens=1000, batch_size=len(lessons), **settings)
        model = MPRM(CHECKPOINT, Encoder(CHECKPOINT), hard, keys)
        with_an_opinion(model)
        read.append(0)

        def count(module: torch.nn.Module, given: Any, states: torch.Tensor) -> None:
            read[-1] += states.shape[:2].numel()

        model.scorer.backbone.get_input_embeddings().register_forward_hook(count)
        metrics.append(model.train(lessons))
        gradients.append(gradients_of(model.scorer))
        scores.append(np.concatenate([entry.scores for entry in model.score(prompts, rollouts)]))
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-5, abs=1e-6)
    assert_same_direction(*gradients, 1e-5)
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert read[1] < 0.8 * read[0]


@torch.no_grad()
def with_an_opinion(model: MPRM) -> None:
    """New heads begin at 0, from which no gradient comes to what is below them."""
    if model.settings.head != "token":
        model.scorer.head.out.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    if model.settings.likelihood:
        model.scorer.likelihood_weights.fill_(0.5)


def test_the_likelihood_enters_as_means_a_token_with_its_weights(
    encoder: Encoder, sampled: tuple[list[Prompt], list[Rollout]]
) -> None:
    """Against the sampler's own log-probabilities: the model's weights are as good as frozen here."""
    prompts, rollouts = sampled
    model, plain = (
        MPRM(CHECKPOINT, encoder, hard, MPRMConfig(likelihood=on, learning_rate=1e-6)) for on in (True, False)
    )
    for with_it, without in zip(model.score(prompts, rollouts), plain.score(prompts, rollouts), strict=True):
        assert np.array_equal(with_it.scores, without.scores), "it starts at 0"
    with torch.no_grad():
        model.scorer.likelihood_weights += torch.tensor([2.0, 3.0])
    scored = zip(rollouts, model.score(prompts, rollouts), plain.score(prompts, rollouts), strict=True)
    for rollout, with_it, without in scored:
        odds = [np.log(entry.scores / (1 - entry.scores)) for entry in (with_it, without)]
        spans = [
            (0 if not place else rollout.steps[place - 1].end, span.end) for place, span in enumerate(rollout.steps)
        ]
        extra = [2 * np.mean(rollout.logprobs[a:b]) + 3 * np.mean(rollout.logprobs[:b]) for a, b in spans]
        assert odds[0] - odds[1] == pytest.approx(np.array(extra), abs=1e-4)


@pytest.mark.parametrize("learning_rate", [1e-5, 1e-4])
def test_the_likelihoods_weights_move_with_the_learning_rate_and_never_below_0(
    learning_rate: float, encoder: Encoder, sampled: tuple[list[Prompt], list[Rollout]]
) -> None:
    """Unlikely steps are wrong first, and then right, by as many labels of each as it takes to turn the weights."""
    prompts, rollouts = sampled
    settings = MPRMConfig(likelihood=True, learning_rate=learning_rate, batch_size=len(rollouts))
    model = MPRM(CHECKPOINT, encoder, hard, settings)
    typical = np.median(np.concatenate([_means(rollout) for rollout in rollouts]))
    lessons = [
        [
            Annotated(
                prompt,
                rollout,
                StepCounts(((_means(rollout) > typical) == likely).astype(int), np.ones(len(rollout.steps)), 0),
            )
            for prompt, rollout in zip(prompts, rollouts, strict=True)
        ]
        for likely in (True, False)
    ]
    metrics = model.train(lessons[0])
    first = [metrics["likelihood_step"], metrics["likelihood_so_far"]]
    assert 0 < max(first) <= 1.01 * LIKELIHOOD_RATE * learning_rate and min(first) >= 0
    for _ in range(6):
        metrics = model.train(lessons[1])
    assert metrics["likelihood_step"] == 0


def _means(rollout: Rollout) -> np.ndarray:
    return np.array([np.mean(rollout.logprobs[span.start : span.end]) for span in rollout.steps])


def test_it_learns_labels_and_leaves_out_missing_steps(
    encoder: Encoder, sampled: tuple[list[Prompt], list[Rollout]]
) -> None:
    prompts, rollouts = sampled
    model = MPRM(CHECKPOINT, encoder, hard, MPRMConfig(likelihood=True, learning_rate=2e-3, batch_size=16))
    lessons = [with_first_step_wrong(prompt, rollout) for prompt, rollout in zip(prompts, rollouts, strict=True)]
    losses = [model.train(lessons)["loss"] for _ in range(15)]
    assert losses[-1] < 0.2 < losses[0]
    assert model.version == 15
    for lesson, scores in zip(lessons, model.score(prompts, rollouts), strict=True):
        labelled = lesson.counts.sampled > 0
        assert ((scores.scores > 0.5) == (lesson.counts.correct > 0))[labelled].mean() > 0.7
        assert scores.mprm_version == 15


def test_nothing_labelled_teaches_nothing(encoder: Encoder, sampled: tuple[list[Prompt], list[Rollout]]) -> None:
    prompts, rollouts = sampled
    model = MPRM(CHECKPOINT, encoder, hard, MPRMConfig(likelihood=True, learning_rate=1e-3))
    empty = [
        Annotated(prompt, rollout, StepCounts(np.zeros(len(rollout.steps), int), np.zeros(len(rollout.steps), int), 0))
        for prompt, rollout in zip(prompts, rollouts, strict=True)
    ]
    assert np.isnan(model.train(empty)["loss"])
    assert model.version == 0


def test_a_saved_model_goes_on_as_if_never_saved(
    encoder: Encoder, sampled: tuple[list[Prompt], list[Rollout]], tmp_path: Path
) -> None:
    prompts, rollouts = sampled
    lessons = [with_first_step_wrong(prompt, rollout) for prompt, rollout in zip(prompts, rollouts, strict=True)]
    model, restored = (
        MPRM(CHECKPOINT, encoder, hard, MPRMConfig(likelihood=True, batch_size=8, learning_rate=1e-3)) for _ in range(2)
    )
    model.train(lessons)
    model.save(tmp_path)
    restored.load(tmp_path)
    assert model.train(lessons) == restored.train(lessons)
    for left, right in zip(model.score(prompts, rollouts), restored.score(prompts, rollouts), strict=True):
        assert np.array_equal(left.scores, right.scores) and left.mprm_version == right.mprm_version == 2


def test_saving_an_untrained_model_changes_nothing(
    encoder: Encoder, sampled: tuple[list[Prompt], list[Rollout]], tmp_path: Path
) -> None:
    prompts, rollouts = sampled
    lessons = [with_first_step_wrong(prompt, rollout) for prompt, rollout in zip(prompts, rollouts, strict=True)]
    saved, other = (
        MPRM(CHECKPOINT, encoder, hard, MPRMConfig(batch_size=8, likelihood=False, learning_rate=1e-3))
        for _ in range(2)
    )
    saved.save(tmp_path)
    assert saved.train(lessons) == other.train(lessons)
    for left, right in zip(saved.score(prompts, rollouts), other.score(prompts, rollouts), strict=True):
        assert np.array_equal(left.scores, right.scores)


def test_adapters_start_alike_whatever_was_drawn_before(encoder: Encoder) -> None:
    settings = MPRMConfig(lora_rank=2, likelihood=False)
    one = MPRM(CHECKPOINT, encoder, hard, settings)
    torch.rand(3)
    two = MPRM(CHECKPOINT, encoder, hard, settings)
    for left, right in zip(one.scorer.parameters(), two.scorer.parameters(), strict=True):
        assert torch.equal(left, right)


def test_another_kind_of_model_is_not_loaded_in_silence(encoder: Encoder, tmp_path: Path) -> None:
    MPRM(CHECKPOINT, encoder, hard, MPRMConfig(head="token", likelihood=False)).save(tmp_path)
    with pytest.raises(ValueError, match="holds another kind of MPRM than this one: head"):
        MPRM(CHECKPOINT, encoder, hard, MPRMConfig(head="value", likelihood=False)).load(tmp_path)


def test_a_folder_from_before_that_tells_how_it_was_taught_is_opened(
    encoder: Encoder, sampled: tuple[list[Prompt], list[Rollout]], tmp_path: Path
) -> None:
    model = MPRM(CHECKPOINT, encoder, hard, MPRMConfig(head="value", likelihood=True, verdicts=("-", "+")))
    model.save(tmp_path)
    content = json.loads((tmp_path / MPRM_FILE).read_text())
    taught = {
        "weighting": {"negative": 1.0},
        "learning_rate": 1e-3,
        "max_grad_norm": 1.0,
        "dtype": "float32",
        "seed": 3,
    }
    content["settings"] |= taught
    (tmp_path / MPRM_FILE).write_text(json.dumps(content))
    again = open_mprm(str(tmp_path), encoder, MPRMConfig(likelihood=False, learning_rate=2e-3))
    expected = MPRMConfig(head="value", likelihood=True, verdicts=("-", "+"), learning_rate=2e-3)
    assert again.settings == expected and again.version == 0
    for left, right in zip(model.score(*sampled), again.score(*sampled), strict=True):
        assert np.array_equal(left.scores, right.scores)
