"""Tiny checkpoints with random weights of the three supported families: their own classes, processors and chat shapes.

Each spells any text from single characters (its tokenizer class with a small vocabulary), keeps '+' and '-' as tokens
of their own, and sees pictures as its large siblings do: Qwen2.5-VL at their own size, InternVL in square tiles with a
thumbnail, Gemma 3 squeezed into one square.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GemmaTokenizer,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
)
from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

PATCH = 14
TILE = 56
TOKENS_A_TILE = (TILE // PATCH // 2) ** 2

# vLLM's attention on a CPU wants a head size of 32 or more.
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
    # Wide enough for random weights to tell inputs apart.
    "initializer_range": 0.1,
}
VISION: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "patch_size": PATCH, "initializer_range": 0.1}

QWEN_CHAT = """\
{%- if messages[0]['role'] != 'system' -%}{{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' -}}{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}
{%- for part in message['content'] -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' if part['type'] == 'image' else part['text'] -}}
{%- endfor -%}{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
INTERNVL_CHAT = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}
{%- for part in message['content'] -%}
{{- '<IMG_CONTEXT>\\n' if part['type'] == 'image' else part['text'] -}}
{%- endfor -%}{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
# A system turn becomes the beginning of the user's, turns must alternate, texts lose the blanks around them, and the
# template itself writes the token that begins a sequence.
GEMMA_CHAT = """\
{{- bos_token -}}
{%- set turns = namespace(system='') -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set first = messages[0]['content'] -%}
{%- set turns.system = (first if first is string else first[0]['text']) + '\\n\\n' -%}
{%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{- raise_exception('turns alternate') -}}{%- endif -%}
{{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' -}}
{{- turns.system if loop.first else '' -}}
{%- if message['content'] is string -%}{{- message['content'] | trim -}}{%- else -%}
{%- for part in message['content'] -%}
{{- '<start_of_image>' if part['type'] == 'image' else part['text'] | trim -}}
{%- endfor -%}{%- endif -%}
{{- '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""


def write_tiny_checkpoint(family: str, folder: Path, seed: int = 0) -> str:
    """Write a checkpoint of one of `FAMILIES` into a folder, and give the folder back as Transformers takes it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, processor = FAMILIES[family]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if family == "gemma3":
        # Transformers reads the names on the hub, which vLLM looks for, but writes them without a part.
        weights = load_file(folder / "model.safetensors")
        named = {
            name.replace("vision_tower.", "vision_tower.vision_model."): tensor for name, tensor in weights.items()
        }
        save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def _tiny_qwen2_5_vl() -> tuple[Any, Any]:
    tokenizer = _byte_level_tokenizer(
        ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"], chat_template=QWEN_CHAT
    )
    token = tokenizer.convert_tokens_to_ids
    size = {"shortest_edge": (2 * PATCH) ** 2, "longest_edge": (8 * PATCH) ** 2}
    patches = {"patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2, "size": size}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**patches),
        tokenizer,
        Qwen2VLVideoProcessor(**patches, cap_pixels_per_frame=False),
        chat_template=QWEN_CHAT,
    )
    config = Qwen2_5_VLConfig(
        text_config={
            **_text_config(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
        },
        vision_config={
            **VISION,
            "depth": 2,
            "num_heads": 2,
            "out_hidden_size": TEXT["hidden_size"],
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 4 * PATCH,
            "fullatt_block_indexes": [1],
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    return _sampling_plainly(model, [token("<|im_end|>"), token("<|endoftext|>")], tokenizer), processor


def _tiny_internvl() -> tuple[Any, Any]:
    tokenizer = _byte_level_tokenizer(
        ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"],
        chat_template=INTERNVL_CHAT,
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    tile = {"height": TILE, "width": TILE}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=tile, crop_to_patches=True, min_patches=1, max_patches=4),
        tokenizer,
        InternVLVideoProcessor(size=tile),
        image_seq_length=TOKENS_A_TILE,
        chat_template=INTERNVL_CHAT,
    )
    config = InternVLConfig(
        text_config={**_text_config(tokenizer), "model_type": "qwen2", "tie_word_embeddings": True},
        vision_config={
            **VISION,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "attention_bias": True,
            "image_size": [TILE, TILE],
            "patch_size": [PATCH, PATCH],
        },
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=TOKENS_A_TILE,
        tie_word_embeddings=True,
    )
    model = InternVLForConditionalGeneration(config)
    return _sampling_plainly(model, [tokenizer.eos_token_id], tokenizer), processor


def _tiny_gemma3() -> tuple[Any, Any]:
    tokenizer = _gemma_tokenizer()
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size={"height": TILE, "width": TILE}),
        tokenizer,
        chat_template=GEMMA_CHAT,
        image_seq_length=TOKENS_A_TILE,
    )
    config = Gemma3Config(
        text_config={
            **_text_config(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 64,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        vision_config={
            **VISION,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": TILE,
            "vision_use_head": False,
        },
        mm_tokens_per_image=TOKENS_A_TILE,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    model = Gemma3ForConditionalGeneration(config)
    # Transformers starts this matrix at 0, and such a model sees nothing.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.1)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")]
    return _sampling_plainly(model, ends, tokenizer), processor


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_5_vl": _tiny_qwen2_5_vl,
    "internvl": _tiny_internvl,
    "gemma3": _tiny_gemma3,
}


def _byte_level_tokenizer(special: list[str], **options: Any) -> Qwen2Tokenizer:
    """One token a byte, and the blank line as one, as in the large vocabularies."""
    characters = [*sorted(ByteLevel.alphabet()), "ĊĊ"]
    tokenizer = Qwen2Tokenizer(
        {character: index for index, character in enumerate(characters)},
        [("Ċ", "Ċ")],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=TEXT["max_position_embeddings"],
        **options,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *special]})
    return tokenizer


def _gemma_tokenizer() -> GemmaTokenizer:
    """One token a character of ASCII, up to four line breaks as one, and bytes for the rest."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    characters = ["▁", *(chr(code) for code in range(33, 127))]
    line_breaks = ["\n" * count for count in range(1, 5)]
    words = [*special, *bytes_, *line_breaks, *characters]
    tokenizer = GemmaTokenizer(
        {word: index for index, word in enumerate(words)},
        [("\n", "\n"), ("\n\n", "\n"), ("\n\n", "\n\n")],
        model_max_length=TEXT["max_position_embeddings"],
        chat_template=GEMMA_CHAT,
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    )
    tokenizer.add_bos_token = True  # as on the hub: the tokenizer begins a sequence, and so does the chat template
    tokenizer.add_tokens(["<start_of_turn>", "<end_of_turn>"], special_tokens=True)
    return tokenizer


def _text_config(tokenizer: Any) -> dict[str, Any]:
    return {
        **TEXT,
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }


def _sampling_plainly(model: Any, ends: list[int], tokenizer: Any) -> Any:
    """Any token by its probability, until one of ``ends``."""
    generation = model.generation_config
    generation.do_sample, generation.temperature, generation.top_k, generation.top_p = True, 1.0, 0, 1.0
    generation.eos_token_id, generation.pad_token_id = ends, tokenizer.pad_token_id
    return model
