"""What makes good that the sampler's log-probabilities are not quite the learner's."""

from __future__ import annotations

import torch

from rl.config.trl_arguments import Correction


def importance_weights(
    learner: torch.Tensor,
    sampler: torch.Tensor,
    mask: torch.Tensor,
    correction: Correction,
    most: float,
    least: float = 0.0,
) -> torch.Tensor:
    """Weights of the loss: how much likelier the learner finds what was sampled, exp(learner - sampler), bounded.

    The policy that samples differs from the one that learns in its kernels and its number format, and by the updates
    in between. Truncated (TIS) or masked (MIS) importance sampling accounts for all of it, as TRL's
    `vllm_importance_sampling_mode` does. The ratio that the loss clips is then to the learner before the update.

    Args:
        learner: Log-probabilities (B, T) of the learner before the update, in nats.
        sampler: Log-probabilities (B, T) at sampling time.
        mask: (B, T), 1 for tokens and 0 for padding.
        correction: `token_…` for one weight a token, `sequence_…` for one a rollout, the product of its tokens';
            `…_truncate` cuts weights off at ``most``, `…_mask` takes those out that are above it or below ``least``.
        most, least: Largest and smallest weight.

    Returns:
        (B, T), 1 at padding, or (B, 1).

    >>> row = torch.tensor([[2.0, 1.5, 1.0]]).log()
    >>> ones, mask = torch.zeros(1, 3), torch.tensor([[1, 1, 0]])
    >>> importance_weights(row, ones, mask, "token_truncate", 1.8)
    tensor([[1.8000, 1.5000, 1.0000]])
    >>> importance_weights(row, ones, mask, "sequence_mask", 2.9)
    tensor([[0.]])
    """
    difference = (learner - sampler) * mask
    if correction.startswith("sequence"):
        difference = difference.sum(-1, keepdim=True)
    weights = difference.exp()
    if correction.endswith("truncate"):
        return weights.clamp(max=most)
    return weights.masked_fill((weights > most) | (weights < least), 0.0)
