"""The policy of an earlier time, that the learner is not to move far away from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


class Reference:
    """Holds the weights that learn as they once were, and lends them to the model for a pass.

    The model is the only one there is, so what is held is as large as what learns: with adapters, the adapters alone,
    and with a sharded model, this rank's part.

    Args:
        parameters: Those that learn, by their names. As they are now, they are the reference.

    Example: the divergence from the first policy, whatever was learned since.

        reference = Reference(dict(model.named_parameters()))
        ...
        with reference.in_place(), torch.no_grad():
            logprobs = model(...)
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._parameters = list(parameters.values())
        self._held = [parameter.detach().clone() for parameter in self._parameters]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model is the reference in here; no gradient may be pending."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def renew(self) -> None:
        """The reference becomes the model as it is now."""
        for held, parameter in zip(self._held, self._parameters, strict=True):
            held.copy_(parameter)

    @torch.no_grad()
    def _swap(self) -> None:
        """In place, since a sharded model keeps hold of its weights' memory."""
        for held, parameter in zip(self._held, self._parameters, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(held)
            held.copy_(kept)
