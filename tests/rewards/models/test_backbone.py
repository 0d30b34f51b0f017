"""Checkpoints that do not hold a model's weights, and models that have no place for adapters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import SiglipVisionConfig, SiglipVisionModel
from transformers.core_model_loading import revert_weight_conversion

from rewards.models.backbone import add_lora, check_vocabulary, load_weights, read_model
from rl.files.named_checkpoint import SHIPPED_POLICY
from tests.fixtures.tiny_families import write_tiny_checkpoint

Weights = dict[str, torch.Tensor]
NORM, STORED = "model.language_model.norm.weight", "model.norm.weight"
"""A weight, as the model and as the file calls it."""


def reshape(weights: Weights) -> None:
    weights[STORED] = weights[STORED][:-1].clone()


CHANGES: dict[str, tuple[Callable[[Weights], object], str]] = {
    "one missing": (lambda weights: weights.pop(STORED), f"1 missing: {NORM}$"),
    "all missing": (lambda weights: [weights.pop(name) for name in list(weights)[1:]], r"\d+ missing: .*, …"),
    "one too many": (lambda weights: weights.update(strange=torch.zeros(2)), "1 none of its own: strange$"),
    "another shape": (reshape, rf"1 of another shape: {NORM} \[\d+\] for \[\d+\]$"),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
def test_no_weight_is_left_to_chance(change: Callable[[Weights], object], told: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(SHIPPED_POLICY, folder)
    whole = read_model(folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for read in (read_model, lambda folder: load_weights(whole, folder)):
        with pytest.raises(ValueError, match=told) as caught:
            read(folder)
        assert str(caught.value).startswith(f"{folder} does not hold the weights of a Qwen2_5_VLForConditionalGener")


def test_adapters_go_where_a_model_reads_text_and_nowhere_else() -> None:
    policy = read_model(SHIPPED_POLICY)
    add_lora(policy, 2)
    adapted = {name.partition(".lora_")[0] for name, p in policy.named_parameters() if p.requires_grad}
    layers = policy.config.get_text_config().num_hidden_layers
    assert len(adapted) == 7 * layers and all(name.startswith("model.language_model.layers.") for name in adapted)
    tower = SiglipVisionModel(
        SiglipVisionConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    with pytest.raises(ValueError, match=r"LoRA: SiglipVisionModel has no text decoder .*allowed is lora_rank 0"):
        add_lora(tower, 2)


def test_experts_are_written_the_way_around_that_the_hub_has_them(tmp_path: Path) -> None:
    """Whichever way they were read: vLLM reads this one alone."""
    file = Path(write_tiny_checkpoint("qwen3_vl_moe", tmp_path)) / "model.safetensors"
    on_the_hub = load_file(file)
    turned = {name: weight.mT.contiguous() for name, weight in on_the_hub.items() if ".experts." in name}
    assert turned and all(weight.shape != on_the_hub[name].shape for name, weight in turned.items())
    for stored in (on_the_hub, on_the_hub | turned):
        save_file(stored, file, metadata={"format": "pt"})
        model = read_model(tmp_path)
        written = revert_weight_conversion(model, model.state_dict())
        assert all(torch.equal(written[name], weight) for name, weight in on_the_hub.items())


def test_tokens_that_the_tokenizer_alone_has_are_refused() -> None:
    policy = read_model(SHIPPED_POLICY)
    rows = policy.get_input_embeddings().num_embeddings
    check_vocabulary(policy, {0, rows - 1})
    with pytest.raises(ValueError, match=f"has token {rows}, and its model embeddings of {rows}"):
        check_vocabulary(policy, {0, rows})


def test_adapters_are_made_without_waking_every_gpu_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that keeps the random state of each has a context on each, of half a gigabyte."""
    woken: list[object] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: woken.append(device) or torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    before = torch.get_rng_state()
    add_lora(read_model(SHIPPED_POLICY), 2, seed=1)
    assert not woken and torch.equal(before, torch.get_rng_state())
