"""A checkpoint of the `internvl_chat` layout as one of Transformers' own InternVL class, which scores the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import InternVLForConditionalGeneration

from rewards.files.json_text import read_json
from rewards.files.whole_file import content_of
from rewards.models.internvl_chat.processor import END_OF_TURN, native_processor
from rewards.models.internvl_chat.settings import native_config, refuse_what_differs
from rewards.models.internvl_chat.weights import load_into, native_weights


def convert(source: Path, folder: Path) -> int:
    """Write a converted checkpoint, in the number format of the original, and give the number of its parameters.

    Args:
        source: Folder of the original: ``config.json``, a tokenizer, ``*.safetensors``. No code in it is run.
        folder: Of the new one.

    Raises:
        ValueError: It is of another layout, or damaged.
        OSError: Something cannot be read or written.
    """
    original = read_json(content_of(source / "config.json"))
    refuse_what_differs(original)
    processor = native_processor(source, original)
    config = native_config(original, processor.image_token_id)
    text = config.text_config
    state = native_weights(_weights(source), text.num_attention_heads, text.num_key_value_heads)
    with torch.device("meta"):  # whose weights are all replaced
        model = InternVLForConditionalGeneration(config)
    load_into(model, state)
    model.generation_config.eos_token_id = processor.tokenizer.convert_tokens_to_ids(END_OF_TURN)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def _weights(source: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for file in sorted(source.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                yield name, opened.get_tensor(name)
