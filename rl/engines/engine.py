"""What an engine does: sample answers, continue them from token prefixes, and take new weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from rewards.records import Completion, SamplingRequest

DEPLOYMENT = {"count", "kv_cache_gib", "gpu_memory_utilization", "num_cpus", "num_gpus"}
"""Keys of the section ``engine`` that say where it runs, and not what it answers."""


class Engine(Protocol):
    """Two implementations behave alike: `rl.engines.vllm_engine.VllmEngine` and `rl.engines.hf_engine.HfEngine`."""

    @property
    def version(self) -> int:
        """The policy version of the weights that answer now."""
        ...

    def sample(self, requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        """``n`` continuations for each request, in its order.

        Prefix and continuation together hold at most ``max_completion_tokens``. Log-probabilities are those of the
        distribution sampled from, at the engine's temperature or the request's own. A text that a request wants to end
        with counts only where all of it is new.
        """
        ...

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None:
        """Replace all weights (Hugging Face names) and forget everything computed with the old ones."""
        ...


def room_left(request: SamplingRequest, max_completion_tokens: int) -> int:
    """Tokens that a continuation of the request's prefix may have; at least 1."""
    return max(1, max_completion_tokens - len(request.prefix))
