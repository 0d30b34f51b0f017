"""Log-probabilities under a sampler that leaves tokens out, where TRL's fused head knows all tokens alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from rewards.models.logit_rule import LogitRule
from rewards.models.truncation import Truncation

POSITIONS_AT_ONCE = 128
"""Whose logits are held in memory together."""


def truncated_logprobs(
    logits: torch.Tensor, targets: torch.Tensor, truncation: Truncation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each target, and entropy, of the distribution that the truncation leaves, in nats.

    A target counts as kept, whatever the truncation says: the policy that drew it had other weights, or other rounding,
    and without a probability nothing could be learned of it. What is kept is a constant to the gradient.

    Args:
        logits: (N, V), at the sampling temperature.
        targets: The tokens drawn (N,).

    Returns:
        Both (N,).

    >>> logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    >>> logprobs, entropy = truncated_logprobs(logits, torch.tensor([1]), Truncation(top_k=2))
    >>> [round(logprobs.exp().item(), 3), round(entropy.item(), 3)]
    [0.375, 0.662]
    """
    with torch.no_grad():
        kept = truncation.kept(logits).scatter(-1, targets.unsqueeze(-1), True)
    logprobs = logits.masked_fill(~kept, -math.inf).log_softmax(-1)
    # No factor may be infinite: 0 times that has no gradient.
    entropy = -(logprobs.exp() * logprobs.masked_fill(~kept, 0.0)).sum(-1)
    return logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1), entropy


@contextmanager
def truncated_head(truncation: Truncation) -> Iterator[None]:
    """Inside, a forward pass through TRL's fused head gives log-probabilities and entropies of what is kept."""

    def apply(
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        temperature: float,
        _vocabulary_chunk: int,
        softcap: float | None,
        scale: float,
        _outputs: tuple[str, ...],
    ) -> tuple[Any, ...]:
        rule = LogitRule(scale, softcap)

        def of(states: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            head_bias = None if bias is None else bias.to(states.dtype)
            logits = rule(torch.nn.functional.linear(states, weight.to(states.dtype), head_bias).float())
            return truncated_logprobs(logits / temperature, tokens, truncation)

        pieces = zip(hidden.split(POSITIONS_AT_ONCE), targets.split(POSITIONS_AT_ONCE), strict=True)
        found = [checkpoint(of, *piece, use_reentrant=False) for piece in pieces]
        logprobs, entropies = (torch.cat(parts) for parts in zip(*found, strict=True))
        return logprobs, entropies, None, None, None

    from trl.trainer import utils as trl_utils  # not before `rl.learning.trainer` has kept it from importing vLLM

    plain = trl_utils._ChunkedLogProbFunction
    trl_utils._ChunkedLogProbFunction = SimpleNamespace(apply=apply)
    try:
        yield
    finally:
        trl_utils._ChunkedLogProbFunction = plain
