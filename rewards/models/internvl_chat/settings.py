"""The configuration of the `internvl_chat` layout as that of Transformers' own InternVL class.

The layout is that of InternVL 1.5 to 3 and of what was trained from them, VisualPRM-8B among it: `InternVisionModel`, a
pixel shuffle, `mlp1`, and a language model of one of `LANGUAGE_MODELS`. It is published with code of its own, which is
not run here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import InternVLConfig

LAYOUT = "internvl_chat"
LANGUAGE_MODELS = {"InternLM2ForCausalLM": "llama", "LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2"}
"""Transformers' model types that compute what these do; InternLM2 is Llama with its projections in one matrix."""
TEMPLATE = "internvl2_5"
"""Of conversations, the only one that is known here."""
VISION = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "hidden_act": "hidden_act",
    "norm_type": "norm_type",
    "layer_norm_eps": "layer_norm_eps",
    "patch_size": "patch_size",
    "qkv_bias": "attention_bias",
    "qk_normalization": "use_qk_norm",
}
"""Their keys of the vision tower, and Transformers'."""
TEXT = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
)
"""Keys of the language model, the same in both."""


def native_config(original: Mapping[str, Any], image_token: int) -> InternVLConfig:
    """Transformers' configuration of a model of this layout.

    Args:
        original: What its ``config.json`` holds, of which `refuse_what_differs` said nothing.
        image_token: The token that stands for a part of a picture, ``<IMG_CONTEXT>``.

    Raises:
        ValueError: Something is missing in it.
    """
    given, llm = _section(original, "vision_config"), _section(original, "llm_config")
    vision = {new: _value(given, "vision_config", key) for key, new in VISION.items()}
    text = {key: _value(llm, "llm_config", key) for key in TEXT}
    scaling = llm.get("rope_scaling")
    text["rope_parameters"] = {
        "rope_type": scaling["type"] if scaling else "default",
        "rope_theta": float(llm.get("rope_theta", 10_000)),
        **({"factor": float(scaling["factor"])} if scaling else {}),
    }
    model_type = LANGUAGE_MODELS[llm["architectures"][0]]
    if model_type == "llama":
        text["attention_bias"] = llm.get("bias", llm.get("attention_bias", False))
    return InternVLConfig(
        text_config={"model_type": model_type, **text},
        vision_config={**vision, "image_size": [given["image_size"]] * 2, "patch_size": [vision["patch_size"]] * 2},
        image_token_id=image_token,
        image_seq_length=tokens_a_tile(original),
        downsample_ratio=original["downsample_ratio"],
        vision_feature_layer=original.get("select_layer", -1),
        tie_word_embeddings=text["tie_word_embeddings"],
    )


def tokens_a_tile(original: Mapping[str, Any]) -> int:
    """Tokens that one square tile of a picture becomes."""
    vision = original["vision_config"]
    return int((vision["image_size"] // vision["patch_size"]) ** 2 * original["downsample_ratio"] ** 2)


def refuse_what_differs(original: Mapping[str, Any]) -> None:
    """Whether a configuration is of this layout, and of a kind of it that Transformers' class computes.

    Raises:
        ValueError: It is not.
    """
    llm, vision = _section(original, "llm_config"), _section(original, "vision_config")
    architectures = llm.get("architectures") or ["none"]
    size = _value(vision, "vision_config", "image_size")
    _value(vision, "vision_config", "patch_size")
    if "downsample_ratio" not in original:
        raise ValueError("config.json has no downsample_ratio")
    for key, value, allowed in (
        ("model_type", original.get("model_type"), (LAYOUT,)),
        ("llm_config.architectures", architectures[0], tuple(LANGUAGE_MODELS)),
        ("llm_config.rope_pos_id_version", llm.get("rope_pos_id_version", "default"), ("default",)),
        ("llm_config.rope_scaling.type", (llm.get("rope_scaling") or {}).get("type"), (None, "linear", "dynamic")),
        ("ps_version", original.get("ps_version"), ("v2",)),
        ("template", original.get("template"), (TEMPLATE,)),
        ("force_image_size", original.get("force_image_size") or size, (size,)),
        ("use_thumbnail", original.get("use_thumbnail", True), (True,)),
    ):
        if value not in allowed:
            raise ValueError(f"config.json: {key} is {value!r}; allowed is {' or '.join(map(str, allowed))}")


def _section(original: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = original.get(key)
    if not isinstance(found, dict):
        raise ValueError(f"config.json has no section {key}; allowed is one of a model of the layout {LAYOUT}")
    return found


def _value(section: Mapping[str, Any], name: str, key: str) -> Any:
    if key not in section:
        raise ValueError(f"config.json has no {name}.{key}")
    return section[key]
