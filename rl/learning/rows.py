"""From rollouts to the tensors that TRL's loss reads, under its names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rewards.encoding import Encoder
from rewards.records import Experience
from rl.learning.critic import Estimate
from rl.learning.importance import importance_weights
from rl.learning.settings import LearnerSettings


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


def model_inputs(encoder: Encoder, experiences: Sequence[Experience], device: torch.device) -> dict[str, Any]:
    """What TRL needs for the log-probabilities of the completions (B, T)."""
    batch = encoder.batch([e.prompt for e in experiences], [e.token_ids for e in experiences])
    tensors = {
        "prompt_ids": batch.prompt_ids,
        "prompt_mask": batch.prompt_mask,
        "completion_ids": batch.completion_ids,
        "completion_mask": batch.completion_mask,
        **batch.images,
        **batch.token_types,
    }
    inputs: dict[str, Any] = {name: tensor.to(device) for name, tensor in tensors.items()}
    inputs["num_images"] = batch.num_images
    pixels = batch.images.get("pixel_values")
    if pixels is not None and "image_grid_thw" not in batch.images:
        # TRL would take an image for one tile. Whose tiles are whose matters only where it splits a batch.
        inputs["num_tiles"] = [len(pixels)] + [0] * (len(experiences) - 1)
    return inputs


def loss_inputs(
    encoder: Encoder, rows: Sequence[Row], settings: LearnerSettings, device: torch.device
) -> dict[str, Any]:
    """All that TRL's loss reads of these rollouts, but for ``num_items_in_batch``."""
    experiences = [row.experience for row in rows]
    inputs = model_inputs(encoder, experiences, device)
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
