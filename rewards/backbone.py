"""Loading a vision-language model: the same way for policy, engine and reward model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText


def device() -> str:
    """Where models of this process live: its GPU if it was given one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(checkpoint: str | Path, dtype: str = "float32", trust_remote_code: bool = False) -> Any:
    """A Transformers image-text-to-text model on `device`.

    Args:
        checkpoint: Folder or hub name.
        dtype: Name of a torch number format, for example ``float32`` or ``bfloat16``.
        trust_remote_code: Whether code shipped with the checkpoint may run.
    """
    model = AutoModelForImageTextToText.from_pretrained(
        checkpoint, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code
    )
    return model.to(device())


def load_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Put a saved checkpoint's weights into a model of the same architecture."""
    model.load_state_dict(AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=model.dtype).state_dict())
