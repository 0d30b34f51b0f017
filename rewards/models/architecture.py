"""Which of Transformers' classes opens a checkpoint, told from its configuration alone, and what cannot be a policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig

LIBRARY = f"Transformers {transformers.__version__}"
MOST_LAYERS = 1000
"""More are no model, and would be waited for."""


def model_class(checkpoint: str | Path, trust_remote_code: bool = False) -> Any:
    """Transformers' class for models of vision and language, or that for language models.

    Args:
        checkpoint: Folder or hub name.
        trust_remote_code: Whether code shipped with the checkpoint may run.

    Raises:
        ValueError: Neither can open it, or it would not learn: it is quantised, or has no rows of prompt and answer;
            or its configuration is none.
    """
    if Path(checkpoint).is_dir() and not (Path(checkpoint) / "config.json").is_file():
        adapters = " but adapters" if (Path(checkpoint) / "adapter_config.json").is_file() else ""
        raise ValueError(f"it holds no model{adapters} (config.json is missing); allowed is a whole checkpoint")
    written = _written(checkpoint)
    kind = written.get("model_type")
    if "auto_map" in written and not trust_remote_code and kind not in CONFIG_MAPPING:
        raise ValueError("it comes with code of its own; allowed with policy.trust_remote_code true, if you trust it")
    if "auto_map" not in written and kind not in CONFIG_MAPPING:
        raise ValueError(f"its model_type {kind!r} is unknown to {LIBRARY}; allowed are those that it has")
    if method := next(filter(None, (part.get("quantization_config") for part in _parts(written))), None):
        named = method.get("quant_method") if isinstance(method, dict) else None
        raise ValueError(
            f"its weights are quantised ({named or 'of an unknown kind'}), and cannot learn; "
            "allowed are float32, bfloat16 and float16"
        )
    return class_of(read_config(checkpoint, trust_remote_code), trust_remote_code)


def read_config(checkpoint: str | Path, trust_remote_code: bool = False) -> Any:
    """A checkpoint's configuration, as Transformers' class for it.

    Raises:
        ValueError: That class does not take what is written; names the field.
    """
    try:
        return AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    except (OSError, ImportError):
        raise
    except Exception as error:  # each class checks in ways of its own
        raise ValueError(f"its config.json cannot be used: {_said(error)}") from error


def empty_model(config: Any) -> Any:
    """The model of a configuration without memory for its weights, on torch's meta device.

    Raises:
        ValueError: See `class_of`; or the configuration's sizes make none.
    """
    kind, text = class_of(config), config.get_text_config()
    try:
        with torch.device("meta"):
            return kind.from_config(config)
    except Exception as error:  # whatever a model does that cannot be made
        pad, rows = getattr(text, "pad_token_id", None), getattr(text, "vocab_size", None)
        if isinstance(pad, int) and isinstance(rows, int) and pad >= rows:
            raise ValueError(
                f"its config.json has pad_token_id {pad} for a vocab_size of {rows:,}; allowed is null, or a token "
                "below vocab_size"
            ) from error
        raise ValueError(
            f"its config.json has sizes that make no {type(config).__name__} model: {_said(error)}"
        ) from error


def _written(checkpoint: str | Path) -> dict[str, Any]:
    """What stands in ``config.json``, before any class has read it.

    Raises:
        ValueError: It is no object, its ``model_type`` no text, or it is of more than `MOST_LAYERS` layers.
    """
    try:
        written, _ = PreTrainedConfig.get_config_dict(checkpoint)
    except (AttributeError, TypeError):  # it puts a name into what it takes for an object
        raise ValueError("its config.json is no object; allowed is one with a model_type") from None
    for part in _parts(written):
        if not isinstance(kind := part.get("model_type"), str | None):
            raise ValueError(f"its config.json has model_type {kind!r}; allowed is the name of one")
        for name, value in part.items():
            if ("layers" in name or name in ("depth", "n_layer")) and isinstance(value, int) and value > MOST_LAYERS:
                raise ValueError(f"its config.json has {name} {value:,}; allowed are at most {MOST_LAYERS:,}")
    return written


def _parts(written: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A configuration, and those inside of it."""
    yield written
    for value in written.values():
        if isinstance(value, dict):
            yield from _parts(value)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


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


def check_longest_row(config: Any, tokens: int) -> None:
    """Whether positions mean the same in all rows of up to so many tokens. Where they are stretched by need (Phi-3's
    LongRoPE, arXiv 2402.13753; dynamic RoPE), a row beyond a bound changes those of its whole batch, and an answer that
    passes it in an engine goes on with others than it began with.

    Raises:
        ValueError: It is beyond the bound.
    """
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    for part in (rope, *rope.values()):  # some have one for each type of layer
        kind = part.get("rope_type") if isinstance(part, dict) else None
        if kind in ("longrope", "dynamic"):
            bound = part.get("original_max_position_embeddings") or text.max_position_embeddings
            if tokens > bound:
                raise ValueError(
                    f"its positions ({kind}) are others in a batch with more than {bound:,} tokens in a row; "
                    f"allowed is engine.max_model_len up to {bound:,}"
                )


def vision_tower(model: Any) -> torch.nn.Module | None:
    """The part of a model that looks at pictures, as the model itself says (Transformers' ``get_encoder``); None of a
    language model, or where it does not say."""
    tower = model.get_encoder(modality="image")
    return None if tower is model or tower is model.base_model else tower


def layers_of(part: torch.nn.Module) -> torch.nn.ModuleList:
    """The layers of a decoder or a tower: of its lists of modules the one with the most weights."""
    stacks = [stack for stack in part.modules() if isinstance(stack, torch.nn.ModuleList)]
    return max(stacks, key=lambda stack: sum(weight.numel() for weight in stack.parameters()))
