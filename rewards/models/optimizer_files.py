"""An optimizer's state as safetensors and JSON: nothing to unpickle, and the same for one rank and for many."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
from torch.distributed.tensor import DTensor, distribute_tensor

FOLDER = "optimizer"
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def save_optimizer(
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, folder: Path, extra: dict[str, Any], writes: bool = True
) -> None:
    """Write ``optimizer/state.safetensors``, keyed ``parameter name/state name``, and ``optimizer/extra.json``.

    In a folder of their own, since vLLM takes every safetensors file beside a model's for a part of it. All ranks
    call it, and the one that ``writes`` has the files.
    """
    found: dict[str, Any] = {"state": {}}
    if optimizer.state:  # where there is none, PyTorch would make one, and count it as a step
        found = get_optimizer_state_dict(model, optimizer, options=WHOLE)
    if not writes:
        return
    tensors = {
        f"{name}/{key}": torch.as_tensor(value).contiguous()
        for name, values in found["state"].items()
        for key, value in values.items()
    }
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / FOLDER / "state.safetensors")
    (folder / FOLDER / "extra.json").write_text(json.dumps(extra))


def load_optimizer(optimizer: torch.optim.Optimizer, model: torch.nn.Module, folder: Path) -> dict[str, Any]:
    """Put what `save_optimizer` wrote back into an optimizer over the same model; gives ``extra`` back.

    Raises:
        ValueError: It was written of an optimizer of another kind.
    """
    saved: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for key, tensor in load_file(folder / FOLDER / "state.safetensors").items():
        name, _, kind = key.rpartition("/")
        saved[name][kind] = tensor
    # PyTorch makes room for a state only where there is none, and no gradient.
    optimizer.zero_grad(set_to_none=True)
    optimizer.state.clear()
    if saved:
        # The names alone are wanted, and the kinds: gathered, its moments would fill the device of every rank.
        there: dict[str, Any] = get_optimizer_state_dict(model, optimizer, options=StateDictOptions())
        groups, wanted = there["param_groups"], {name: list(values) for name, values in there["state"].items()}
        del there
        # What has no gradient yet, as the vision tower before the first picture, has no state: this one is a step old.
        optimizer.state.clear()
        for names, group in zip(groups, optimizer.param_groups, strict=True):
            for name, parameter in zip(names["params"], group["params"], strict=True):
                if name not in saved:
                    continue
                if saved[name].keys() != set(wanted[name]):
                    raise ValueError(f"{folder / FOLDER} is of another kind of optimizer: it has {sorted(saved[name])}")
                # PyTorch itself would make floats of bytes.
                optimizer.state[parameter] = {kind: _placed(saved[name][kind], parameter) for kind in wanted[name]}
    return json.loads((folder / FOLDER / "extra.json").read_text())


def _placed(whole: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A state where its parameter is, or this rank's part of one."""
    if isinstance(parameter, DTensor) and whole.dim():
        return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return whole.to(parameter.device, copy=True)


@dataclass(frozen=True)
class Snapshot:
    """Copies, on the CPU, of all trainable weights and of the optimizer's state; of a rank's own part of them where
    ranks share a model."""

    weights: dict[torch.Tensor, torch.Tensor]
    optimizer: dict[torch.Tensor, dict[str, Any]]

    @classmethod
    def take(cls, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Snapshot:
        """Copy what an update changes."""
        weights: dict[torch.Tensor, torch.Tensor] = {p: _copy(p) for p in model.parameters() if p.requires_grad}
        state = {p: {name: _copy(value) for name, value in values.items()} for p, values in optimizer.state.items()}
        return cls(weights, state)

    @torch.no_grad()
    def put_back(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the model, and its optimizer, what they were."""
        for parameter, value in self.weights.items():
            _own(parameter).copy_(value)
        for parameter in list(optimizer.state):
            if parameter not in self.optimizer:
                del optimizer.state[parameter]
        for parameter, values in self.optimizer.items():
            for name, value in values.items():
                _own(optimizer.state[parameter][name]).copy_(value)


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor."""
    local: Any = getattr(tensor, "to_local", None)
    return local() if local else tensor


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return _own(tensor.detach()).to("cpu", copy=True)
