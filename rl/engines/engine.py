"""What an engine does: sample answers, continue them from token prefixes, and take new weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from rewards.records import Completion, Prompt, PromptError, SamplingRequest
from rl.config.sections import LEAST_ANSWER

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
            PromptError: A prompt is longer than the engine's context, or has too many images; see `check_prompt`.
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


def check_prompt(prompt: Prompt, tokens: int, context: int, images: int) -> None:
    """Whether a prompt of so many tokens leaves room for an answer, and has no more images than it may.

    Raises:
        PromptError: It does not.
    """
    most = context - LEAST_ANSWER
    if tokens > most:
        raise PromptError(
            f"{prompt.id}: the prompt has {tokens:,} tokens, with its images; allowed with engine.max_model_len "
            f"{context:,} are {most:,}"
        )
    if len(prompt.images) > images:
        raise PromptError(
            f"{prompt.id}: the prompt has {len(prompt.images)} images; allowed with engine.images_per_prompt "
            f"{images} are no more than that"
        )


def room_left(request: SamplingRequest, max_completion_tokens: int) -> int:
    """Tokens that a continuation of the request's prefix may have; at least 1."""
    room = max(1, max_completion_tokens - len(request.prefix))
    return room if request.max_tokens is None else min(room, request.max_tokens)


def cut_off(request: SamplingRequest, new_tokens: int, max_completion_tokens: int) -> str:
    """The finish reason of a continuation that was cut off after so many tokens: ``segment`` or ``length``."""
    room = max_completion_tokens - len(request.prefix) - new_tokens
    return "segment" if new_tokens == request.max_tokens and room > 0 else "length"
