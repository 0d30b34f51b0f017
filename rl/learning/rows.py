"""From rollouts to the tensors that TRL's loss reads, under its names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rewards.models.encoding import Batch, Encoder
from rewards.models.token_tree import PackedBatch, Stem, find_stems, own_tokens, pack_batch
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
    """What the log-probabilities of the completions (B, T) need. The mask of these leaves out prefixes, too: the model
    reads them, and the loss is not made of them.

    Packed (`rewards.models.token_tree`), all that goes to the model stands beside what TRL knows of, for which prompts
    are then one token long.
    """
    prompts, paths = [e.prompt for e in experiences], [e.path for e in experiences]
    stems: list[Stem | None] = [None] * len(paths)
    if packed:
        stems = find_stems([prompt.id for prompt in prompts], [len(e.prefix) for e in experiences], paths)
        batch: Batch | PackedBatch = pack_batch(encoder, prompts, own_tokens(paths, stems), None, stems)
    else:
        batch = encoder.batch(prompts, paths)
    learned = batch.completion_mask.clone()
    for mask, experience, stem in zip(learned, experiences, stems, strict=True):
        mask[: 0 if stem else len(experience.prefix)] = 0
    tensors = {
        "prompt_ids": batch.prompt_ids,
        "prompt_mask": batch.prompt_mask,
        "completion_ids": batch.completion_ids,
        "completion_mask": learned,
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
    mask = inputs["completion_mask"]
    sampler = _placed([e.sampler_logprobs for e in experiences], mask)
    inputs["advantages"] = _placed([e.advantages for e in experiences], mask)
    inputs["old_per_token_logps"] = inputs["sampling_per_token_logps"] = sampler
    if settings.correction != "none":
        inputs["old_per_token_logps"] = _placed([row.before for row in rows], mask)
        inputs["importance_sampling_ratio"] = importance_weights(
            inputs["old_per_token_logps"],
            sampler,
            mask,
            settings.correction,
            settings.correction_max,
            settings.correction_min,
        )
    if settings.kl:
        inputs["ref_per_token_logps"] = _placed([row.reference for row in rows], mask)
    return inputs


def _placed(values: Sequence[Any], mask: torch.Tensor) -> torch.Tensor:
    """One float for each token that is learned from, rollout after rollout, where the mask has it (B, T)."""
    floats = torch.as_tensor(np.concatenate([np.asarray(row, np.float32) for row in values]), device=mask.device)
    return torch.zeros_like(mask, dtype=torch.float32).masked_scatter(mask.bool(), floats)


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
