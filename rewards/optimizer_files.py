"""An optimizer's state as safetensors and JSON: nothing that has to be unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


def save_optimizer(
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, folder: Path, extra: dict[str, Any]
) -> None:
    """Write ``optimizer.safetensors``, keyed ``parameter name/state name``, and ``optimizer.json`` with ``extra``."""
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    tensors = {
        f"{names[parameter]}/{key}": torch.as_tensor(value).detach().cpu().contiguous()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "optimizer.safetensors")
    (folder / "optimizer.json").write_text(json.dumps(extra))


def load_optimizer(optimizer: torch.optim.Optimizer, model: torch.nn.Module, folder: Path) -> dict[str, Any]:
    """Put what `save_optimizer` wrote back into an optimizer over the same model; gives ``extra`` back."""
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for key, tensor in load_file(folder / "optimizer.safetensors").items():
        name, _, state_name = key.rpartition("/")
        parameter = parameters[name]
        # Step counters stay on the CPU, as PyTorch's optimizers keep them.
        value = tensor if tensor.dim() == 0 else tensor.to(parameter.device)
        optimizer.state[parameter][state_name] = value
    return json.loads((folder / "optimizer.json").read_text())
