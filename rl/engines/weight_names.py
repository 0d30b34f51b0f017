"""What the hub, and vLLM with it, calls weights where Transformers, whose names are used here, has other names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from rewards.models.backbone import lora_config

RENAMED = {"gemma3": ("vision_tower.", "vision_tower.vision_model.")}
"""For a ``model_type``: a part of the names in Transformers, and on the hub."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's ``max_lora_rank`` may be."""


def hub_name(name: str, model_type: str) -> str:
    """The name on the hub of a weight in Transformers.

    >>> hub_name("model.vision_tower.encoder.layers.0.mlp.fc1.bias", "gemma3")
    'model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias'
    >>> hub_name("model.language_model.norm.weight", "gemma3")
    'model.language_model.norm.weight'
    """
    part, hub = RENAMED.get(model_type, ("", ""))
    return name if hub in name else name.replace(part, hub)


def write_adapters(adapters: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write adapters, as the learner has them, under the names that PEFT saves.

    Raises:
        ValueError: There are none, or of several ranks.
    """
    ranks = {tensor.shape[0] for name, tensor in adapters.items() if name.endswith("lora_A.weight")}
    if len(ranks) != 1:
        raise ValueError(f"adapters of ranks {sorted(ranks)}: allowed is one rank for all")
    lora_config(ranks.pop()).save_pretrained(folder)
    save_file({name: tensor.contiguous() for name, tensor in adapters.items()}, folder / "adapter_model.safetensors")


def room_for_rank(rank: int) -> int:
    """The smallest ``max_lora_rank`` that holds adapters of a rank.

    Raises:
        ValueError: vLLM has none.
    """
    if rank > RANKS[-1]:
        raise ValueError(f"learner.lora_rank is {rank}: with engine.sync_adapters allowed is at most {RANKS[-1]}")
    return next(size for size in RANKS if size >= rank)
