"""How many floating-point operations a policy step asks for, and what share of the device's peak that is.

Counted are those of the model alone (PaLM, arXiv 2204.02311, appendix B): neither padding, nor activations that
gradient checkpointing computes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rewards.models.architecture import vision_tower
from rewards.models.encoding import Encoder
from rewards.records import Prompt
from rl.learning.known_gpus import tflops_of

LANGUAGE, HEAD, PROJECTOR, VISION = range(4)


@dataclass(frozen=True)
class Work:
    """What of one rollout goes through the parts of a model.

    Attributes:
        prompt: Tokens of the prompt, placeholders of images included.
        answer: Tokens of the answer.
        images: Placeholders of images.
        patches: Patches of images.
    """

    prompt: int
    answer: int
    images: int
    patches: int

    @property
    def passes(self) -> np.ndarray:
        """How often each of a `ModelSize`'s parts is gone through, in their order."""
        return np.array([self.prompt + self.answer, self.answer, self.images, self.patches], float)

    @property
    def pairs(self) -> float:
        """Pairs of a token and one before it, or itself."""
        return (self.prompt + self.answer) ** 2 / 2


def prompt_work(encoder: Encoder, prompt: Prompt, model: Any) -> Work:
    """What reading a prompt means for a Transformers image-text-to-text model, before any answer."""
    batch = encoder.batch([prompt], [()])
    images = sum(token in encoder.placeholders for token in batch.prompt_ids[0].tolist())
    pixels, patches = batch.images.get("pixel_values"), 0
    if pixels is not None and pixels.ndim < 4:  # cut by the processor already, as Qwen-VL's does
        patches = pixels[..., 0].numel()
    elif pixels is not None:
        side = getattr(getattr(model.config, "vision_config", None), "patch_size", None)
        height, width = side if isinstance(side, (list, tuple)) else (side, side)
        tiles = pixels[..., 0, 0, 0].numel()
        # A tower that does not say what a patch is may have none: then every token stands for one.
        patches = tiles * (pixels.shape[-2] // height) * (pixels.shape[-1] // width) if height and width else images
    return Work(batch.prompt_ids.shape[1], 0, images, patches)


@dataclass(frozen=True)
class ModelSize:
    """The weights that tokens are multiplied with.

    Attributes:
        weights: (4,): of the language model's layers; of its head, which only answer tokens pass; of what makes tokens
            of patches; and of the vision tower.
        trained: (4,): of them, those that learn.
        attention: Layers of the language model times the width of all their heads.
    """

    weights: np.ndarray
    trained: np.ndarray
    attention: int

    @staticmethod
    def of(model: Any) -> ModelSize:
        """Of a Transformers image-text-to-text model that is whole, before it is spread over ranks."""
        text = model.config.get_text_config()
        table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        weights, trained = np.zeros(4), np.zeros(4)
        tower = vision_tower(model)
        seeing = {id(parameter) for parameter in tower.parameters()} if tower is not None else set()
        for name, parameter in [*model.named_parameters(), ("", head)]:
            if name and (parameter is table or parameter is head):
                continue  # looking up an embedding is no multiplication
            part = _part(name, id(parameter) in seeing) if name else HEAD
            weights[part] += parameter.numel()
            trained[part] += parameter.numel() * parameter.requires_grad
        heads = getattr(text, "num_attention_heads", 0)  # Mamba has none
        width = heads and (getattr(text, "head_dim", None) or text.hidden_size // heads)
        return ModelSize(weights, trained, text.num_hidden_layers * heads * width)

    def forward(self, work: Sequence[Work]) -> float:
        """Operations of one pass: two for each weight and token, and for attention four for each pair of tokens."""
        return sum(2 * float(self.weights @ one.passes) + 4 * self.attention * one.pairs for one in work)

    def backward(self, work: Sequence[Work]) -> float:
        """Operations of the way back: as many for the activations, and as many again for the weights that learn.

        The vision tower is first in line: where it is frozen, nothing goes back through it.
        """
        passed = self.weights.copy()
        if not self.trained[VISION]:
            passed[VISION] = 0
            passed[PROJECTOR] *= bool(self.trained[PROJECTOR])
        return sum(2 * float((passed + self.trained) @ one.passes) + 8 * self.attention * one.pairs for one in work)


def _part(name: str, sees: bool) -> int:
    """The part of a model that a weight of this name belongs to, within its vision tower or not."""
    if any("merger" in part or "projector" in part for part in name.split(".")):
        return PROJECTOR
    return VISION if sees else LANGUAGE


def peak_flops(device: torch.device, dtype: str, override: float | None) -> float:
    """What a device can do, in operations a second; nan if nobody knows.

    Args:
        device: Where the model is.
        dtype: Number format of the computation; of known GPUs, bfloat16 alone is known.
        override: The answer, in 10^12 operations a second; None to look it up.
    """
    if override is not None:
        return override * 1e12
    if device.type != "cuda" or dtype != "bfloat16":
        return float("nan")
    return (tflops_of(torch.cuda.get_device_name(device)) or float("nan")) * 1e12
