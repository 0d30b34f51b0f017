"""The real quickstart's policy: a LLaVA of SmolLM2's first layers and a small SigLIP tower."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import (
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
)

TOWER = "vision_tower."
AS_PUBLISHED = "vision_tower.vision_model."
SIZE = 64
PATCH = 16
"""Pixels of a picture's side, and of what one visual token sees."""


def make_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Shows every picture as 4 x 4 visual tokens."""
    return LlavaProcessor(
        SiglipImageProcessor(size={"height": SIZE, "width": SIZE}),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=tokenizer.chat_template,
        image_token="<image>",
    )


def make_model(language_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """The language model behind a tower with random weights from torch's current random state, in float32."""
    text = language_model.config.to_dict()
    text.pop("architectures", None)
    config = LlavaConfig(
        text_config=text,
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "image_size": SIZE,
            "patch_size": PATCH,
            "vision_use_head": False,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_seq_length=(SIZE // PATCH) ** 2,
        tie_word_embeddings=True,
        dtype="float32",
    )
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language_model.model.state_dict())
    model.tie_weights()
    generation, end = model.generation_config, tokenizer.eos_token_id
    generation.do_sample, generation.temperature, generation.top_k, generation.top_p = True, 1.0, 0, 1.0
    generation.eos_token_id = generation.pad_token_id = end
    generation.bos_token_id = tokenizer.bos_token_id
    return model


def save_model(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Write a checkpoint with the tower's weights named as published LLaVAs name them, which vLLM looks for and
    Transformers reads; its own `save_pretrained` leaves a part of the names out."""
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    weights = {name.replace(TOWER, AS_PUBLISHED): weight for name, weight in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
