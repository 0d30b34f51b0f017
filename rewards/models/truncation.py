"""Which tokens a sampler may draw: what it and whoever scores its answers have to agree on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Truncation:
    """The tokens that may come next; the others have no probability, and theirs goes to these.

    One after another, each on what those before it left: ``min_p``, ``top_k``, ``top_p``. That is vLLM's order.
    Transformers' own, with ``min_p`` last, keeps other tokens.

    Attributes:
        top_k: So many of the most likely tokens, and what ties with the last of them; 0 for all.
        top_p: The fewest of the most likely tokens that have so much of the probability together; 1 for all.
        min_p: Tokens at least so likely as a share of the most likely one (arXiv 2407.01082); 0 for all.
    """

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    @property
    def is_used(self) -> bool:
        """Whether it leaves anything out."""
        return self != Truncation()

    def kept(self, logits: torch.Tensor) -> torch.Tensor:
        """Which tokens stay, as booleans (..., V), of logits (..., V) at the sampling temperature.

        >>> import torch
        >>> logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
        >>> [truncation.kept(logits).tolist() for truncation in (Truncation(top_p=0.7), Truncation(min_p=0.2))]
        [[True, True, False, False], [True, True, True, False]]
        """
        kept = logits > -math.inf
        if self.min_p:
            probabilities = logits.softmax(-1)
            kept = kept & (probabilities >= self.min_p * probabilities.amax(-1, keepdim=True))
        if 0 < self.top_k < logits.shape[-1]:
            left = logits.masked_fill(~kept, -math.inf)
            kept = kept & (left >= left.topk(self.top_k).values[..., -1:])
        if self.top_p < 1:
            rising, places = logits.masked_fill(~kept, -math.inf).sort(-1)
            beyond = rising.softmax(-1).cumsum(-1) <= 1 - self.top_p
            beyond[..., -1] = False  # the most likely one
            kept = kept & ~beyond.scatter(-1, places, beyond)
        return kept
