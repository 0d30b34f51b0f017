"""How large a vision-language model is: what a memory estimate needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tower:
    """A stack of equal transformer layers.

    Attributes:
        parameters: All of them; of the language model with embeddings, output matrix and projector.
        layers, hidden, intermediate: As in the model's configuration.
        heads, key_value_heads, head_size: Of attention.
        gated: Whether the feed-forward part has a gate (three matrices, not two).
        norms: Normalisations of a layer's hidden states.
        head_norms: Whether queries and keys are normalised as well.
    """

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_size: int
    gated: bool = True
    norms: int = 2
    head_norms: bool = False

    @property
    def query_width(self) -> int:
        """Numbers of all heads' queries."""
        return self.heads * self.head_size

    @property
    def key_width(self) -> int:
        """Numbers of all heads' keys."""
        return self.key_value_heads * self.head_size

    def adapter_parameters(self, rank: int) -> int:
        """Of LoRA on all linear layers, as `rewards.backbone.add_lora` puts it: rank x (inputs + outputs) of each."""
        attention = 2 * (self.hidden + self.query_width) + 2 * (self.hidden + self.key_width)
        return self.layers * rank * (attention + 3 * (self.hidden + self.intermediate))


@dataclass(frozen=True)
class ModelShape:
    """A language model with a vision tower before it.

    Attributes:
        language, vision: The two.
        vocabulary: Rows of the embedding matrix.
        patches: Patches of the vision tower that become one image token.
    """

    language: Tower
    vision: Tower
    vocabulary: int
    patches: int = 4

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.language.parameters + self.vision.parameters

    @property
    def cache_numbers(self) -> int:
        """Numbers that the key-value cache holds for one token: a key and a value in each layer."""
        return 2 * self.language.layers * self.language.key_width


def find_shape(checkpoint: str, trust_remote_code: bool = False) -> ModelShape | None:
    """The shape of a checkpoint: of a known name, a local folder, or a hub name that is in the cache; asks no network.

    None where it cannot be known.
    """
    from rl.planning.known_shapes import KNOWN_SHAPES

    if checkpoint in KNOWN_SHAPES:
        return KNOWN_SHAPES[checkpoint]
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=trust_remote_code)
        return shape_of(config)
    except (OSError, ValueError, AttributeError):
        return None


def shape_of(config: Any) -> ModelShape:
    """The shape of the model that a Transformers configuration describes; its parameters are counted on a model without
    memory (the meta device).

    Raises:
        AttributeError, ValueError: It is no vision-language model of a known kind.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    from rewards.backbone import VISION_TOWERS

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    parts = dict(model.named_parameters())
    vision = sum(p.numel() for name, p in parts.items() if not VISION_TOWERS.isdisjoint(name.split(".")))
    names = [name.rpartition(".")[0] for name in parts if "language_model.layers.0." in name]
    return ModelShape(
        _language_tower(config.get_text_config(), sum(p.numel() for p in parts.values()) - vision, names),
        _vision_tower(config.vision_config, vision),
        config.get_text_config().vocab_size,
        _patches_of_a_token(config),
    )


def _language_tower(config: Any, parameters: int, names: list[str]) -> Tower:
    """``names`` are those of the first layer's modules."""
    return Tower(
        parameters,
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        norms=len({name for name in names if name.endswith("layernorm")}),
        head_norms=any(name.endswith("q_norm") for name in names),
    )


def _vision_tower(config: Any, parameters: int) -> Tower:
    depth = config.depth if hasattr(config, "depth") else config.num_hidden_layers
    heads = config.num_attention_heads
    return Tower(
        parameters,
        depth,
        config.hidden_size,
        config.intermediate_size,
        heads,
        heads,
        config.hidden_size // heads,
        gated=config.model_type.startswith("qwen2_5_vl"),
    )


def _patches_of_a_token(config: Any) -> int:
    vision = config.vision_config
    if hasattr(vision, "spatial_merge_size"):
        return vision.spatial_merge_size**2
    side = vision.image_size if isinstance(vision.image_size, int) else vision.image_size[0]
    patch = vision.patch_size if isinstance(vision.patch_size, int) else vision.patch_size[0]
    tokens = config.mm_tokens_per_image if hasattr(config, "mm_tokens_per_image") else config.image_seq_length
    return (side // patch) ** 2 // tokens
