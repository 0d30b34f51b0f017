"""What the hub, and vLLM with it, calls weights where Transformers, whose names are used here, has other names."""

from __future__ import annotations

RENAMED = {"gemma3": ("vision_tower.", "vision_tower.vision_model.")}
"""For a ``model_type``: a part of the names in Transformers, and on the hub."""


def hub_name(name: str, model_type: str) -> str:
    """The name on the hub of a weight in Transformers.

    >>> hub_name("model.vision_tower.encoder.layers.0.mlp.fc1.bias", "gemma3")
    'model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias'
    >>> hub_name("model.language_model.norm.weight", "gemma3")
    'model.language_model.norm.weight'
    """
    part, hub = RENAMED.get(model_type, ("", ""))
    return name if hub in name else name.replace(part, hub)
