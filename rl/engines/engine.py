"""What an engine does: sample answers, continue them from token prefixes, and take new weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from rewards.records import Completion, SamplingRequest

DEPLOYMENT = {
    *("count", "kv_cache_gib", "gpu_memory_utilization", "num_cpus", "num_gpus", "tensor_parallel"),
    *("sleep", "segment_tokens", "weight_transfer", "sync_adapters"),
}
"""Keys of the section ``engine`` that say where it runs, and not what it answers."""


class Engine(Protocol):
    """What answers prompts."""

    @property
    def version(self) -> int:
        """The policy version of the weights that answer now."""
        ...

    def sample(self, requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        """``n`` continuations for each request, in its order.

        Prefix and continuation together hold at most ``max_completion_tokens``. Log-probabilities are those of the
        distribution sampled from, at the engine's temperature or the request's own, among the tokens that it draws
        from. A text that a request wants to end with counts only where all of it is new. A continuation that the
        request's ``max_tokens`` cut short, with room left, has the finish reason ``segment``; at the engine's limit it
        has ``length``.

        Raises:
            PromptError: A prompt is longer than the engine's context, or has too many images; see
                `rl.engines.room.check_prompt`.
        """
        ...


class RenewableEngine(Engine, Protocol):
    """An engine that follows a learner.

    Two implementations behave alike: `rl.engines.vllm_engine.VllmEngine` and, but for adapters and sleep,
    `rl.engines.hf_engine.HfEngine`.
    """

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> int:
        """Replace all weights (Hugging Face names) and forget everything computed with the old ones.

        Returns:
            The version that answers from now on.
        """
        ...

    def load_adapters(self, adapters: Mapping[str, torch.Tensor], version: int) -> int:
        """`load_weights`, of LoRA adapters alone (PEFT's saved names): all else stays as it was at the start.

        Raises:
            ValueError: The engine takes whole weights alone.
        """
        ...

    def sleep(self) -> None:
        """Give the device's memory back until `wake_up` and new weights, which must come before anything else.

        Raises:
            ValueError: The engine cannot.
        """
        ...

    def wake_up(self) -> None:
        """Take the memory again; new weights, or adapters, come next."""
        ...

    def close(self) -> None:
        """End it: a process can have one vLLM engine at a time."""
        ...
