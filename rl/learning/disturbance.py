"""Weights that are others for a while, to see who notices."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.distributed.tensor import DTensor

FILL = 0.1
"""In place of weights that are all 0, as of adapters that have not yet learned."""


class Disturbance:
    """Halves weights in place, and doubles them again: a power of two leaves no trace in a float, and no copy is held.

    Args:
        parameters: Those to change, all of them; of a sharded model, this rank's part.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        weights = [parameter.detach() for parameter in parameters]
        here = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in weights]
        self._none = [weight for weight in here if not weight.any()]
        self._some = [weight for weight in here if weight.any()]
        for weight in self._none:
            weight.fill_(FILL)
        for weight in self._some:
            weight.mul_(0.5)

    def end(self) -> None:
        """All of them are as they were."""
        for weight in self._none:
            weight.zero_()
        for weight in self._some:
            weight.mul_(2)
