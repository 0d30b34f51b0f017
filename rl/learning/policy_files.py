"""The policy's weights, out of a model that may be spread over ranks and may carry adapters, and back into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.distributed import get_rank, is_initialized
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.tensor import DTensor
from transformers.core_model_loading import revert_weight_conversion

from rewards.models.backbone import merge_lora, read_model
from rewards.models.optimizer_files import WHOLE, load_optimizer, save_optimizer
from rl.engines.adapter_files import PEFT_PREFIX, write_adapters

__all__ = [
    "adapter_weights",
    "checkpoint_weights",
    "load_optimizer",
    "put_weights",
    "save_optimizer",
    "save_policy",
    "saved_weights",
    "whole_weights",
]

ADAPTERS, ADAPTER = "adapters", "lora_"


def whole_weights(
    wrapped: torch.nn.Module, dtype: torch.dtype | None = None, only: str = ""
) -> dict[str, torch.Tensor]:
    """Every weight as the model names it, on the CPU, copied; on the first rank, and nothing elsewhere. They are
    gathered one after another: no rank ever has two of them whole on its device.

    Args:
        wrapped: The model, on all ranks at once.
        dtype: Number format that they are brought to before they leave the device, adapters apart, which are still to
            be added to what they adapt; None for their own.
        only: What the names of those that are wanted have in them.
    """
    state: dict[str, Any] = get_model_state_dict(wrapped)
    is_first, found = not is_initialized() or get_rank() == 0, {}
    for name, value in state.items():
        if only not in name:
            continue
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if is_first:
            casts = dtype is not None and whole.is_floating_point() and ADAPTER not in name
            there = whole.to(dtype) if casts else whole
            found[name] = there.to("cpu", copy=there is whole)
    return found


def put_weights(wrapped: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Put whole tensors back, on all ranks at once; what ``state`` does not name stays."""
    set_model_state_dict(wrapped, dict(state), options=replace(WHOLE, strict=False))


def checkpoint_weights(model: Any, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`merge_lora`'s weights by the names, and in the shapes, that they had in the files of the checkpoint that the
    model was read from: what an engine that has read them, too, looks for."""
    return revert_weight_conversion(model, merge_lora(state))


def adapter_weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The adapters alone, by the names under which PEFT saves them."""
    return {PEFT_PREFIX + name.replace(".default.", "."): value for name, value in state.items() if ADAPTER in name}


def save_policy(model: Any, state: Mapping[str, torch.Tensor], folder: Path, lora_rank: int) -> None:
    """A folder that Transformers and vLLM load; the adapters, if there are any, are merged, and in a folder of their
    own as well, since vLLM takes every safetensors file beside a model's for a part of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        plain = type(model)(model.config)
    plain.generation_config = model.generation_config
    # Transformers then writes the names that it has read.
    plain._weight_conversions = getattr(model, "_weight_conversions", None)
    plain.save_pretrained(folder, state_dict=merge_lora(state))
    if lora_rank:
        (folder / ADAPTERS).mkdir(exist_ok=True)
        write_adapters(adapter_weights(state), folder / ADAPTERS)


def saved_weights(model: Any, folder: Path, lora_rank: int, trust_remote_code: bool) -> dict[str, torch.Tensor]:
    """What `save_policy` wrote of the weights that can have moved, as a model with as many adapters names it.

    Raises:
        ValueError: The folder has no such adapters.
    """
    if not lora_rank:
        return read_model(folder, trust_remote_code=trust_remote_code).state_dict()
    found = load_file(folder / ADAPTERS / "adapter_model.safetensors")
    names = {PEFT_PREFIX + name.replace(".default.", "."): name for name in model.state_dict() if "lora_" in name}
    if found.keys() != names.keys():
        raise ValueError(f"{folder}: its adapters are not of this model")
    return {names[name]: value for name, value in found.items()}
