"""The small parts of the learner, each against an independent source."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import OPTConfig, OPTForCausalLM
from trl.trainer import utils as trl_utils

from rewards.models.backbone import load_model
from rewards.models.encoding import Encoder
from rl.config.checks import check_settings
from rl.config.learner import LearnerConfig
from rl.config.trl_arguments import check_trl_arguments
from rl.learning.flops import ModelSize, peak_flops, prompt_work
from rl.learning.learner import PolicyLearner
from rl.learning.micro_batches import micro_batches, mini_batches, shares
from rl.learning.rows import importance_weights
from rl.learning.statistics import advantage_statistics
from rl.learning.trainer import EntropyBonus, leave_no_dropout, make_trainer
from tests.fixtures.learner_config import learner_config
from tests.fixtures.learner_experiences import CHECKPOINT, going_on, of_another_sampler, sampled_experiences


@pytest.mark.parametrize(("most", "least"), [(2.0, 0.25), (0.5, 0.0), (4.0, 1.5)])
@pytest.mark.parametrize("correction", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
def test_importance_weights_row_by_row(correction: Any, most: float, least: float) -> None:
    """A plain loop over rollouts and tokens."""
    generator = torch.Generator().manual_seed(0)
    learner, sampler = torch.randn(2, 6, 9, generator=generator).unbind()
    mask = (torch.arange(9) < torch.tensor([9, 1, 4, 7, 9, 2])[:, None]).long()
    found = importance_weights(learner, sampler, mask, correction, most, least)
    for row in range(6):
        apart = [float(learner[row, t] - sampler[row, t]) for t in range(9) if mask[row, t]]
        weights = [math.exp(sum(apart))] if correction.startswith("sequence") else [math.exp(one) for one in apart]
        bounded = [min(w, most) if correction.endswith("truncate") else w * (least <= w <= most) for w in weights]
        assert found[row, : len(bounded)].tolist() == pytest.approx(bounded, rel=1e-5)
        assert correction.startswith("sequence") or (found[row, len(bounded) :] == 1).all()


def test_every_row_is_in_one_micro_batch_of_one_rank() -> None:
    lengths = np.random.default_rng(0).integers(1, 90, 23).tolist()
    for most in (1, 4, 30):
        for ranks in (1, 2, 3, 40):
            batches = micro_batches(lengths, most, ranks)
            assert max(map(len, batches)) <= most
            found = [list(shares(batches, rank, ranks)) for rank in range(ranks)]
            assert len({len(one) for one in found}) == 1, "all ranks have equally many"
            places = sorted(place for one in found for batch, mine in one if mine for place in batch)
            assert places == list(range(23))


def test_every_row_is_learned_from_once_an_epoch() -> None:
    settings = LearnerConfig(epochs=3, mini_batches=4)
    found = list(mini_batches(10, settings, seed=0, version=5))
    assert [len(part) for part in found] == [3, 3, 2, 2] * 3
    epochs = [[place for part in found[start : start + 4] for place in part] for start in (0, 4, 8)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert list(mini_batches(2, settings, seed=0, version=0)) == [*mini_batches(2, settings, seed=0, version=0)]
    assert all(len(part) == 1 for part in mini_batches(2, settings, seed=0, version=0)), "no empty mini-batch"


def test_an_adaptive_entropy_bonus_keeps_entropy_up() -> None:
    bonus = EntropyBonus(0.0, adaptive=True, least=0.0, most=0.02, delta=0.01, target=0.5)
    assert bonus.weight == 0, "nothing is known yet"
    for entropy, weight in [(0.4, 0.01), (0.3, 0.02), (0.2, 0.02), (0.6, 0.0), (0.5, 0.02)]:
        bonus.after(entropy)
        assert bonus.weight == pytest.approx(weight), entropy
    again = EntropyBonus(0.0, adaptive=True, least=0.0, most=0.02, delta=0.01, target=0.5)
    again.restore(bonus.state())
    assert again == bonus


def test_an_entropy_bonus_raises_the_entropy() -> None:
    """Beside a loss that says nothing."""
    quiet = [
        type(e)(e.prompt, e.token_ids, e.sampler_logprobs, np.zeros(len(e.token_ids)), 0) for e in sampled_experiences()
    ]
    learner = PolicyLearner(CHECKPOINT, Encoder(CHECKPOINT), learner_config(trl={"entropy_coef": 0.5}))
    first, second = learner.step(quiet), learner.step(quiet)
    assert first["loss"] == pytest.approx(-0.5 * first["entropy"])
    assert second["entropy"] > first["entropy"]


def test_the_highest_entropies_alone_are_learned_from() -> None:
    """With one token in three, as if the others had no advantage; the loss divides by all tokens, as TRL's does."""
    encoder, experiences = Encoder(CHECKPOINT), of_another_sampler(sampled_experiences())
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(trl={"top_entropy_quantile": 0.3}))
    entropies = [entropy for _, entropy in learner._read(experiences)]
    edge = np.quantile(np.concatenate(entropies), 0.7)
    silenced = [
        type(e)(e.prompt, e.token_ids, e.sampler_logprobs, e.advantages * (entropy >= edge), 0)
        for e, entropy in zip(experiences, entropies, strict=True)
    ]
    plain = PolicyLearner(CHECKPOINT, encoder).step(silenced)
    metrics = learner.step(experiences)
    assert [metrics[name] for name in ("loss", "grad_norm")] == pytest.approx([plain["loss"], plain["grad_norm"]], 1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon_hgih": 0.3}, "epsilon_hgih: no such argument; allowed here: delta, epsilon_high,"),
        ({"loss_type": "grpo"}, "loss_type: no such argument"),
        ({"importance_sampling_level": "word"}, "importance_sampling_level: 'word' is not allowed: input should be"),
        (
            {"use_adaptive_entropy": "yes"},
            "use_adaptive_entropy: 'yes' is not allowed: input should be a valid boolean",
        ),
        ({"epsilon_high": True}, "epsilon_high: True is not allowed"),
        ({"top_entropy_quantile": 1.5}, "top_entropy_quantile: 1.5 is not allowed: input should be less than"),
        ({"delta": float("inf")}, "delta: inf is not allowed"),
    ],
)
def test_a_wrong_argument_is_named_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_trl_arguments(arguments)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trl": {"delta": 0}}, "learner.trl.delta: 0 is not allowed: input should be greater than 0"),
        ({"loss": "vespo", "correction": "sequence_mask"}, "learner.correction is 'sequence_mask': allowed with"),
        ({"sharding": "deepspeed", "optimizer": "adamw_8bit"}, "learner.optimizer is 'adamw_8bit': allowed with"),
        ({"correction_min": 3, "correction_max": 2}, "learner.correction_min is 3: allowed is less than"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_settings(LearnerConfig(**values))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


OPTIONAL: list[tuple[dict[str, Any], str]] = [
    ({"liger": True}, "liger-kernel"),
    ({"sharding": "deepspeed"}, "deepspeed"),
]


@pytest.mark.parametrize(("values", "package"), OPTIONAL)
def test_what_is_not_installed_is_refused_in_one_line(
    values: dict[str, Any], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl.config.checks.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"^learner\.\w+ is .*: the package {package} is not installed; allowed is"):
        check_settings(LearnerConfig(**values))


def test_ligers_kernels_are_put_into_layers_and_trl_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL's own argument goes with its second version, and warns of that; its fused head is no Liger's."""
    with pytest.raises(ValueError, match=r"^learner.liger is true: .* there is none here; allowed is false$"):
        make_trainer(CHECKPOINT, Encoder(CHECKPOINT), learner_config(liger=True))
    asked: list[Any] = []
    monkeypatch.setattr("rl.learning.trainer.device", lambda: "cuda")
    monkeypatch.setattr("rl.learning.trainer.apply_liger_kernel", lambda model, settings: asked.append(settings))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        trainer = make_trainer(CHECKPOINT, Encoder(CHECKPOINT), learner_config(liger=True))
    assert not trainer.args.use_liger_kernel and asked == [{"fused_linear_cross_entropy": False}]


def test_operations_are_those_that_torch_counts() -> None:
    """Within what the formula leaves out (attention inside the vision tower) and what torch counts beyond need (the
    upper half of causal attention, the language head on prompts)."""
    encoder, experience = Encoder(CHECKPOINT), sampled_experiences()[0]
    model = load_model(CHECKPOINT)
    size, work = (
        ModelSize.of(model),
        [replace(prompt_work(encoder, experience.prompt, model), answer=len(experience.token_ids))],
    )
    assert (work[0].images, work[0].patches) == (9, 36), "84 by 84 pixels in patches of 14"
    inputs = encoder.batch([experience.prompt], [experience.token_ids]).model_inputs()
    with FlopCounterMode(display=False) as counter:
        logits = model(**inputs, logits_to_keep=work[0].answer).logits
        forward = counter.get_total_flops()
        logits.sum().backward()
    assert size.forward(work) == pytest.approx(forward, rel=0.1)
    assert size.backward(work) == pytest.approx(counter.get_total_flops() - forward, rel=0.1)


def test_utilisation_is_operations_by_what_the_device_could_do() -> None:
    experiences = list(sampled_experiences())
    encoder = Encoder(CHECKPOINT)
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(peak_tflops=0.05))
    metrics = learner.step(experiences)
    size, work = (
        learner._size,
        [replace(prompt_work(encoder, e.prompt, learner._model), answer=len(e.token_ids)) for e in experiences],
    )
    expected = (size.forward(work) + size.backward(work)) / metrics["seconds"] / 0.05e12
    assert metrics["flops_utilisation"] == pytest.approx(expected)
    assert metrics["tokens"] == sum(encoder.head_length(e.prompt) + len(e.token_ids) for e in experiences)
    assert math.isnan(peak_flops(torch.device("cpu"), "float32", None))


def test_advantage_statistics_are_over_tokens() -> None:
    experiences = list(sampled_experiences())
    metrics = PolicyLearner(CHECKPOINT, Encoder(CHECKPOINT)).step(experiences)
    tokens = [float(a) for e in experiences for a in e.advantages]
    assert metrics["advantage_mean"] == pytest.approx(np.mean(tokens))
    assert metrics["advantage_std"] == pytest.approx(np.std(tokens))
    assert metrics["advantage_positive"] == pytest.approx(sum(a > 0 for a in tokens) / len(tokens))


def test_where_only_continuations_are_left_nothing_is_said_of_rollouts() -> None:
    """All rollouts were cut off and masked, and some of what goes on from them was not."""
    told = advantage_statistics([going_on(experience, 1) for experience in sampled_experiences()], True)
    assert told["continuation_share"] == 1 and all(math.isnan(told[f"advantage_{name}"]) for name in ("mean", "std"))


def test_scoring_the_answers_alone_is_as_scoring_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL's own choice, on a CPU, is to take the logits of prompts and padding, too."""
    experiences = list(sampled_experiences())
    prompts, answers = [e.prompt for e in experiences], [e.token_ids for e in experiences]

    def learn() -> tuple[list[list[float]], dict[str, float]]:
        learner = PolicyLearner(CHECKPOINT, Encoder(CHECKPOINT))
        return learner.logprobs(prompts, answers), learner.step(experiences)

    assert trl_utils._use_triton(torch.device("cpu"))
    logprobs, said = learn()
    monkeypatch.setattr(trl_utils, "_use_triton", lambda device: False)
    expected_logprobs, expected = learn()
    for name in ("loss", "grad_norm", "entropy"):
        assert said[name] == pytest.approx(expected[name], rel=1e-4), name
    for row, expected_row in zip(logprobs, expected_logprobs, strict=True):
        assert row == pytest.approx(expected_row, abs=1e-5)


def test_a_policy_that_learns_drops_nothing() -> None:
    """OPT drops a tenth of everything, by functions as well as by modules."""
    size = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 32, "num_hidden_layers": 1}
    model = OPTForCausalLM(OPTConfig(**size, num_attention_heads=2, vocab_size=50, attention_dropout=0.5)).train()
    ids = torch.arange(2, 40)[None]
    assert not torch.equal(model(ids).logits, model(ids).logits)
    leave_no_dropout(model)
    assert torch.equal(model(ids).logits, model(ids).logits)
