"""Adapters as files, which PEFT and vLLM read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from rewards.models.backbone import lora_config

PEFT_PREFIX = "base_model.model."
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's ``max_lora_rank`` may be."""


def write_adapters(adapters: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write adapters, as the learner has them, under the names that PEFT saves.

    Raises:
        ValueError: There are none, or of several ranks.
    """
    ranks = {tensor.shape[0] for name, tensor in adapters.items() if name.endswith("lora_A.weight")}
    if len(ranks) != 1:
        raise ValueError(f"adapters of ranks {sorted(ranks)}: allowed is one rank for all")
    layers = {name.removeprefix(PEFT_PREFIX).rpartition(".lora_")[0] for name in adapters}
    lora_config(ranks.pop(), layers).save_pretrained(folder)
    save_file({name: tensor.contiguous() for name, tensor in adapters.items()}, folder / "adapter_model.safetensors")


def room_for_rank(rank: int) -> int:
    """The smallest ``max_lora_rank`` that holds adapters of a rank.

    Raises:
        ValueError: vLLM has none.
    """
    if rank > RANKS[-1]:
        raise ValueError(f"learner.lora_rank is {rank}: with engine.sync_adapters allowed is at most {RANKS[-1]}")
    return next(size for size in RANKS if size >= rank)
