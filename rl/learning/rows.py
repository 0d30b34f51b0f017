"""From rollouts to the tensors that TRL's loss reads, under its names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rewards.models.encoding import Encoder
from rewards.models.token_tree import pack_batch
from rewards.records import Experience
from rl.config.learner import LearnerConfig
from rl.config.trl_arguments import Correction
from rl.learning.critic import Estimate

BESIDE = "model:"
"""Begins the names of what the model is given, as it is, and of which TRL knows nothing."""


@dataclass(frozen=True)
class Row:
    """A rollout as the loss sees it.

    Attributes:
        experience: The rollout.
        before: The learner's log-probabilities (T,) at the start of the policy step; None without a correction or a
            critic.
        reference: The reference policy's (T,); None without one.
        estimate: What the critic says of it; None without one.
    """

    experience: Experience
    before: np.ndarray | None = None
    reference: np.ndarray | None = None
    estimate: Estimate | None = None


def model_inputs(
    encoder: Encoder, experiences: Sequence[Experience], device: torch.device, packed: bool = False
) -> dict[str, Any]:
    """What the log-probabilities of the completions (B, T) need.

    Packed (`rewards.models.token_tree`), all that goes to the model stands beside what TRL knows of, for which prompts
    are then one token long.
    """
    prompts, answers = [e.prompt for e in experiences], [e.token_ids for e in experiences]
    batch = pack_batch(encoder, prompts, answers) if packed else encoder.batch(prompts, answers)
    tensors = {
        "prompt_ids": batch.prompt_ids,
        "prompt_mask": batch.prompt_mask,
        "completion_ids": batch.completion_ids,
        "completion_mask": batch.completion_mask,
    }
    inputs: dict[str, Any] = {name: tensor.to(device) for name, tensor in tensors.items()}
    return inputs | {BESIDE + name: value for name, value in batch.model_inputs(device).items()}


def loss_inputs(
    encoder: Encoder,
    rows: Sequence[Row],
    settings: LearnerConfig,
    device: torch.device,
    packed: bool = False,
) -> dict[str, Any]:
    """All that TRL's loss reads of these rollouts, but for ``num_items_in_batch``."""
    experiences = [row.experience for row in rows]
    inputs = model_inputs(encoder, experiences, device, packed)
    # What the loss is not made of; the model reads it all the same.
    for mask, experience in zip(inputs["completion_mask"], experiences, strict=True):
        mask[: experience.prefix_length] = 0
    sampler = _padded([e.sampler_logprobs for e in experiences], device)
    inputs["advantages"] = _padded([e.advantages for e in experiences], device)
    inputs["old_per_token_logps"] = inputs["sampling_per_token_logps"] = sampler
    if settings.correction != "none":
        inputs["old_per_token_logps"] = _padded([row.before for row in rows], device)
        inputs["importance_sampling_ratio"] = importance_weights(
            inputs["old_per_token_logps"],
            sampler,
            inputs["completion_mask"],
            settings.correction,
            settings.correction_max,
            settings.correction_min,
        )
    if settings.kl:
        inputs["ref_per_token_logps"] = _padded([row.reference for row in rows], device)
    return inputs


def _padded(values: Sequence[Any], device: torch.device) -> torch.Tensor:
    """Right-padded (B, T) floats."""
    rows = [torch.as_tensor(np.asarray(row, np.float32)) for row in values]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)


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
    of_rollouts = correction.startswith("sequence")
    weights = (difference.sum(-1, keepdim=True) if of_rollouts else difference).exp()
    if correction.endswith("truncate"):
        weights = weights.clamp(max=most)
    else:
        weights = weights.masked_fill((weights > most) | (weights < least), 0.0)
    # `vespo` multiplies the weights of a row, padding and all: with bounds that leave out 1 its length would count.
    return weights if of_rollouts else weights.masked_fill(mask == 0, 1.0)
