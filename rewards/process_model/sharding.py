"""Several ranks, one model: each holds all of it (DDP), or a part of every layer (FSDP2, PyTorch's `fully_shard`)."""

from __future__ import annotations

from typing import Literal

import torch
from accelerate import Accelerator
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

Sharding = Literal["ddp", "fsdp2"]


def spread(
    model: torch.nn.Module, layers: set[str], methods: list[str], accelerator: Accelerator, sharding: Sharding
) -> torch.nn.Module:
    """Make a model one of the ranks that ``accelerator`` knows; an optimizer is made of its parameters afterwards.

    Accelerate itself shards on accelerators alone; done here, it is the same on a CPU.

    Args:
        model: The same on every rank.
        layers: Class names of the layers to gather one at a time, with `fsdp2`.
        methods: Names of methods beside ``forward`` that compute with the weights.
        accelerator: Of the ranks.
        sharding: Which of the two.
    """
    if accelerator.num_processes == 1 or sharding == "ddp":
        return accelerator.prepare(model)
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    # What is kept is float32; what is computed with, and gathered for it, is what the accelerator says.
    compute = torch.bfloat16 if accelerator.mixed_precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32 if compute else None)
    for module in model.modules():
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh, mp_policy=policy)
    # Between two passes every weight is in its parts, so that it can be saved, put back and updated.
    fully_shard(model, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
    for method in methods:
        register_fsdp_forward_method(model, method)
    return model
