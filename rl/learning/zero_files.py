"""Weights and optimizer of a model that DeepSpeed's ZeRO-3 has cut into parts, whole, and back into them.

The counterpart of `rl.learning.policy_files` and `rewards.models.optimizer_files`, whose files it reads and writes too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from rewards.files.json_text import read_json_file
from rewards.models.optimizer_files import FOLDER

MOMENTS = ("exp_avg", "exp_avg_sq")


def whole_weights(wrapped: Any, dtype: torch.dtype | None = None, only: str = "") -> dict[str, torch.Tensor]:
    """See `rl.learning.policy_files.whole_weights`. What learns is in float32, whatever is computed with."""
    import deepspeed
    from deepspeed.utils import safe_get_full_fp32_param

    found = {}
    for name, parameter in wrapped.module.named_parameters(remove_duplicate=False):
        if only not in name:
            continue
        if parameter.requires_grad:
            whole = safe_get_full_fp32_param(parameter)
        else:
            with deepspeed.zero.GatheredParameters([parameter]):
                whole = parameter.detach().clone()
        if wrapped.global_rank == 0:
            found[name] = whole.to(dtype or whole.dtype).to("cpu", copy=True)
    return found


def put_weights(wrapped: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Put whole tensors back, on all ranks at once; what ``state`` does not name stays."""
    import deepspeed
    from deepspeed.utils import safe_set_full_fp32_param

    for name, parameter in wrapped.module.named_parameters():
        if name in state and parameter.requires_grad:
            whole = state[name].to(wrapped.device)
            # What is computed with is another tensor than what the optimizer moves.
            safe_set_full_fp32_param(parameter, whole)
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
                parameter.copy_(whole)


def save_optimizer(optimizer: Any, wrapped: Any, folder: Path, extra: dict[str, Any], writes: bool = True) -> None:
    """See `rewards.models.optimizer_files.save_optimizer`."""
    from deepspeed.utils import safe_get_full_optimizer_state

    tensors = {}
    steps = [values["step"] for values in wrapped.optimizer.optimizer.state.values() if "step" in values]
    for name, parameter in wrapped.module.named_parameters():
        if parameter.requires_grad and steps:
            for moment in MOMENTS:
                whole = safe_get_full_optimizer_state(parameter, moment)
                tensors[f"{name}/{moment}"] = whole.to("cpu", copy=True)
            tensors[f"{name}/step"] = torch.tensor(float(steps[0]))
    if writes:
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / FOLDER / "state.safetensors")
        (folder / FOLDER / "extra.json").write_text(json.dumps(extra))


def load_optimizer(optimizer: Any, wrapped: Any, folder: Path) -> dict[str, Any]:
    """See `rewards.models.optimizer_files.load_optimizer`."""
    from deepspeed.utils import safe_set_full_optimizer_state

    state = load_file(folder / FOLDER / "state.safetensors")
    for name, parameter in wrapped.module.named_parameters():
        for moment in MOMENTS:
            if f"{name}/{moment}" in state:
                safe_set_full_optimizer_state(parameter, state[f"{name}/{moment}"].to(wrapped.device), moment)
    for values in wrapped.optimizer.optimizer.state.values():
        values["step"] = next((tensor.clone() for key, tensor in state.items() if key.endswith("/step")), 0.0)
    return read_json_file(folder / FOLDER / "extra.json")
