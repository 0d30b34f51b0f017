"""Small networks on a backbone's hidden states."""

from __future__ import annotations

import torch


class TwoLayerHead(torch.nn.Module):
    """Two linear layers with SiLU between them (BaseReward, arXiv 2509.16127, section 3.2): (…, H) to (…, outputs).

    Computes in float32 whatever the backbone's number format. The last layer starts at 0, so that a new head says the
    same of everything.
    """

    def __init__(self, hidden_size: int, outputs: int = 1) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(hidden_size, hidden_size)
        self.out = torch.nn.Linear(hidden_size, outputs)
        torch.nn.init.zeros_(self.out.weight)
        torch.nn.init.zeros_(self.out.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.out(torch.nn.functional.silu(self.hidden(states.to(self.hidden.weight.dtype))))
