"""Which of Transformers' classes opens a checkpoint, told from its configuration alone, and what cannot be a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig

LIBRARY = f"Transformers {transformers.__version__}"


def model_class(checkpoint: str | Path, trust_remote_code: bool = False) -> Any:
    """Transformers' class for models of vision and language, or that for language models.

    Args:
        checkpoint: Folder or hub name.
        trust_remote_code: Whether code shipped with the checkpoint may run.

    Raises:
        ValueError: Neither can open it, or it would not learn: it is quantised, or has no rows of prompt and answer.
    """
    if Path(checkpoint).is_dir() and not (Path(checkpoint) / "config.json").is_file():
        adapters = " but adapters" if (Path(checkpoint) / "adapter_config.json").is_file() else ""
        raise ValueError(f"it holds no model{adapters} (config.json is missing); allowed is a whole checkpoint")
    written, _ = PreTrainedConfig.get_config_dict(checkpoint)
    kind = written.get("model_type")
    if "auto_map" in written and not trust_remote_code and kind not in CONFIG_MAPPING:
        raise ValueError("it comes with code of its own; allowed with policy.trust_remote_code true, if you trust it")
    if "auto_map" not in written and kind not in CONFIG_MAPPING:
        raise ValueError(f"its model_type {kind!r} is unknown to {LIBRARY}; allowed are those that it has")
    parts = [written, *(part for part in written.values() if isinstance(part, dict))]
    if method := next((part["quantization_config"] for part in parts if part.get("quantization_config")), None):
        raise ValueError(
            f"its weights are quantised ({method.get('quant_method', 'of an unknown kind')}), and cannot learn; "
            "allowed are float32, bfloat16 and float16"
        )
    return class_of(AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code), trust_remote_code)


def class_of(config: Any, trust_remote_code: bool = False) -> Any:
    """`model_class`, for a configuration.

    Raises:
        ValueError: Neither class has a model for it, or it encodes a prompt apart from the answer.
    """
    own = getattr(config, "auto_map", None) or {} if trust_remote_code else {}
    found = [
        kind
        for kind in (AutoModelForImageTextToText, AutoModelForCausalLM)
        if type(config) in kind._model_mapping or kind.__name__ in own
    ]
    if not found:
        raise ValueError(
            f"{LIBRARY} has no model for its model_type {config.model_type!r} that writes text; allowed "
            "are those of AutoModelForImageTextToText and AutoModelForCausalLM"
        )
    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        raise ValueError(
            f"its model_type {config.model_type!r} encodes a prompt apart from the answer; allowed are models that "
            "read both as one row (decoders)"
        )
    return found[0]


def vision_tower(model: Any) -> torch.nn.Module | None:
    """The part of a model that looks at pictures, as the model itself says (Transformers' ``get_encoder``); None of a
    language model, or where it does not say."""
    tower = model.get_encoder(modality="image")
    return None if tower is model or tower is model.base_model else tower


def layers_of(part: torch.nn.Module) -> torch.nn.ModuleList:
    """The layers of a decoder or a tower: of its lists of modules the one with the most weights."""
    stacks = [stack for stack in part.modules() if isinstance(stack, torch.nn.ModuleList)]
    return max(stacks, key=lambda stack: sum(weight.numel() for weight in stack.parameters()))
