"""How long a prompt may be, and how long its answer can become, in an engine's context."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rewards.models.encoding import Encoder
from rewards.records import Prompt, PromptError, SamplingRequest
from rl.config.sections import LEAST_ANSWER


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


@dataclass(frozen=True)
class Room:
    """How long an engine's answers can be.

    Attributes:
        encoder: Tells how long a prompt is.
        max_completion_tokens: Most tokens of one answer, prefix included.
        max_model_len: Most tokens of prompt and answer together.
        images_per_prompt: Most images of one prompt.
    """

    encoder: Encoder
    max_completion_tokens: int
    max_model_len: int
    images_per_prompt: int

    def check(self, prompts: Iterable[Prompt]) -> None:
        """`check_prompt` of each of these.

        Raises:
            PromptError: One leaves no room for an answer, or has too many images.
        """
        for prompt in prompts:
            check_prompt(prompt, self.encoder.head_length(prompt), self.max_model_len, self.images_per_prompt)

    def left(self, request: SamplingRequest) -> int:
        """Tokens that a continuation of the request's prefix may have; at least 1."""
        room = max(1, self._longest(request.prompt) - len(request.prefix))
        return room if request.max_tokens is None else min(room, request.max_tokens)

    def cut_off(self, request: SamplingRequest, new_tokens: int) -> str:
        """The finish reason of a continuation that was cut off after so many tokens: ``segment`` or ``length``."""
        room = self._longest(request.prompt) - len(request.prefix) - new_tokens
        return "segment" if new_tokens == request.max_tokens and room > 0 else "length"

    def _longest(self, prompt: Prompt) -> int:
        """Most tokens of an answer; the context then still has one left, in which all of it can be continued."""
        return min(self.max_completion_tokens, self.max_model_len - 1 - self.encoder.head_length(prompt))
