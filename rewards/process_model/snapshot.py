"""The state of a model and its optimizer at one moment, to go back to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


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
