"""What an engine does: sample answers, continue them from token prefixes, and take new weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from rewards.records import Completion, SamplingRequest


class Engine(Protocol):
    """Two implementations behave alike: `rl.engines.vllm_engine.VllmEngine` and `rl.engines.hf_engine.HfEngine`.

    Attributes:
        version: The policy version of the weights that answer now.
    """

    version: int

    def sample(self, requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        """``n`` continuations for each request, in its order.

        Prefix and continuation together hold at most ``max_completion_tokens``. Log-probabilities are those of the
        distribution sampled from, at the engine's temperature.
        """
        ...

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None:
        """Replace all weights (Hugging Face names) and forget everything computed with the old ones."""
        ...


def room_left(request: SamplingRequest, max_completion_tokens: int) -> int:
    """Tokens that a continuation of the request's prefix may have; at least 1."""
    return max(1, max_completion_tokens - len(request.prefix))
