"""Models that read rows otherwise in a batch than alone, or ahead, are found by asking them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from rewards.models.backbone import load_model
from rewards.models.encoding import Encoder
from rewards.models.reading_check import check_reading
from tests.fixtures.builders import a_prompt
from tests.fixtures.policy_families import a_picture
from tests.fixtures.tiny_families import write_tiny_checkpoint

SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 300,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(write_tiny_checkpoint("llama", tmp_path_factory.mktemp("llama")))


def test_a_decoder_reads_alike(encoder: Encoder) -> None:
    check_reading(LlamaForCausalLM(LlamaConfig(**SIZE)), encoder)


@pytest.mark.parametrize(
    "model",
    [
        # Its learned positions count the padding.
        lambda: GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2, initializer_range=0.2)),
        # Its tokens see those after them.
        lambda: BertLMHeadModel(BertConfig(**SIZE)),
    ],
    ids=["positions", "ahead"],
)
def test_another_reading_is_refused(model: Any, encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="reads a prompt and its answer otherwise beside longer ones") as caught:
        check_reading(model(), encoder)
    assert "\n" not in str(caught.value)


def test_a_model_that_fails_is_refused_in_one_line(encoder: Encoder) -> None:
    too_few = LlamaForCausalLM(LlamaConfig(**SIZE | {"vocab_size": 4}))
    with pytest.raises(ValueError, match=r"cannot read prompts of different kinds as a batch \(IndexError") as caught:
        check_reading(too_few, encoder)
    assert "\n" not in str(caught.value)


def test_padding_that_is_read_as_zeros_is_not_what_rows_are_filled_up_with(tmp_path: Path) -> None:
    """Of zeros Gemma 3n takes a magnitude, whose gradient there is none, and no step of a reward model was finite."""
    checkpoint = write_tiny_checkpoint("gemma3n_text", tmp_path)
    encoder, model = Encoder(checkpoint), load_model(checkpoint)
    prompts, answers = [a_prompt(name, images=()) for name in ("one", "another one")], [(40, 41), (42,)]

    def gradients_are_finite() -> bool:
        model.zero_grad()
        model(**encoder.batch(prompts, answers).model_inputs()).logits[:, -2].sum().backward()
        return all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)

    assert not gradients_are_finite()
    check_reading(model, encoder)
    assert encoder.fill_token != encoder.pad_token and gradients_are_finite()


@torch.no_grad()
def test_an_answer_to_a_prompt_that_is_read_both_ways_is_read_one_way(tmp_path: Path) -> None:
    checkpoint = write_tiny_checkpoint("paligemma", tmp_path)
    encoder, model = Encoder(checkpoint), load_model(checkpoint).eval()
    check_reading(model, encoder)
    assert encoder.answer_type == 1
    prompt = a_prompt("seen", images=(a_picture(56, 56, 0),))
    longer, shorter = (
        model(**encoder.batch([prompt], [answer]).model_inputs()).logits[0] for answer in ((40, 41, 42), (40, 41))
    )
    assert torch.allclose(longer[:-1], shorter, atol=1e-5)
