"""The tiny policy: the Qwen2.5-VL architecture at about a million parameters, with its processor."""

from __future__ import annotations

import math

import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from rl.tiny_policy.tokenizer import (
    END_OF_TURN,
    NUMBERS,
    PAD,
    make_tokenizer,
)

PATCH = 14
MERGE = 2


def make_processor() -> Qwen2_5_VLProcessor:
    """Keeps pictures from 28 x 28 to 448 x 448 pixels at their size, rounded to whole visual tokens of 28 x 28."""
    tokenizer = make_tokenizer()
    size = {"shortest_edge": (PATCH * MERGE) ** 2, "longest_edge": (16 * PATCH * MERGE) ** 2}
    patches = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2, "size": size}
    return Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**patches),
        tokenizer,
        Qwen2VLVideoProcessor(**patches, cap_pixels_per_frame=False),
        chat_template=tokenizer.chat_template,
    )


def make_model(processor: Qwen2_5_VLProcessor) -> Qwen2_5_VLForConditionalGeneration:
    """A model with random weights from torch's current random state, in float32."""
    tokenizer = processor.tokenizer
    token = tokenizer.convert_tokens_to_ids
    end, pad = token(END_OF_TURN), token(PAD)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            # Texts are short: a small base keeps neighbouring positions and picture rows well apart.
            "rope_parameters": {"rope_type": "default", "rope_theta": 30.0, "mrope_section": [4, 6, 6]},
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": end,
            "pad_token_id": pad,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_heads": 3,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 128,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
        dtype="float32",
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    _lay_out_numbers(model, token(NUMBERS[0]))
    generation = model.generation_config
    generation.do_sample, generation.temperature, generation.top_k, generation.top_p = True, 1.0, 0, 1.0
    generation.eos_token_id, generation.pad_token_id, generation.bos_token_id = end, pad, None
    return model


def _lay_out_numbers(model: Qwen2_5_VLForConditionalGeneration, zero: int) -> None:
    """Start the number words as waves of their value, on which sums are turns; random ones learn a table instead."""
    weights = model.get_input_embeddings().weight
    values = torch.arange(len(NUMBERS), dtype=torch.float32)[:, None]
    periods = torch.tensor([2, 3, 4, 5, 7, 10, 16, 25, 50, 100, 200, 400], dtype=torch.float32)
    angles = 2 * math.pi * values / periods
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    spread = torch.nn.init.orthogonal_(torch.empty(waves.shape[1], weights.shape[1]))
    with torch.no_grad():
        weights[zero : zero + len(NUMBERS)] += 0.06 * waves @ spread
