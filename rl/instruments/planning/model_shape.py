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
        """Of LoRA on all linear layers (`rewards.models.backbone.add_lora`): rank x (inputs + outputs) of each."""
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
    from rl.instruments.planning.model_shape import KNOWN_SHAPES

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

    from rewards.models.backbone import VISION_TOWERS

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


def _qwen(
    parameters: int, vision: int, layers: int, hidden: int, intermediate: int, heads: int, key_value_heads: int
) -> ModelShape:
    """Qwen2.5-VL (arXiv 2502.13923, table 1)."""
    return ModelShape(
        Tower(parameters - vision, layers, hidden, intermediate, heads, key_value_heads, 128),
        Tower(vision, 32, 1280, 3420 if hidden < 5000 else 3456, 16, 16, 80),
        151936 if hidden < 3000 else 152064,
    )


def _internvl(
    parameters: int, layers: int, hidden: int, intermediate: int, heads: int, key_value_heads: int, head_size: int = 0
) -> ModelShape:
    """InternVL3 (arXiv 2504.10479; its language model is Qwen2.5) and InternVL3.5 (arXiv 2508.18265; Qwen3, with a head
    size of its own), in Transformers' classes, with InternViT-300M."""
    vision = 304_012_288
    return ModelShape(
        Tower(
            parameters - vision,
            layers,
            hidden,
            intermediate,
            heads,
            key_value_heads,
            head_size or hidden // heads,
            head_norms=bool(head_size),
        ),
        Tower(vision, 24, 1024, 4096, 16, 16, 64, gated=False),
        151936 if head_size else 151674,
    )


def _gemma(
    parameters: int, layers: int, hidden: int, intermediate: int, heads: int, key_value_heads: int, head_size: int
) -> ModelShape:
    """Gemma 3 (arXiv 2503.19786, table 1), with SigLIP-400M."""
    vision = 416_866_032
    return ModelShape(
        Tower(
            parameters - vision,
            layers,
            hidden,
            intermediate,
            heads,
            key_value_heads,
            head_size,
            norms=4,
            head_norms=True,
        ),
        Tower(vision, 27, 1152, 4304, 16, 16, 72, gated=False),
        262208,
        patches=16,
    )


KNOWN_SHAPES: dict[str, ModelShape] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": _qwen(3_754_622_976, 668_684_288, 36, 2048, 11008, 16, 2),
    "Qwen/Qwen2.5-VL-7B-Instruct": _qwen(8_292_166_656, 676_550_144, 28, 3584, 18944, 28, 4),
    "Qwen/Qwen2.5-VL-32B-Instruct": _qwen(33_452_718_336, 688_841_984, 64, 5120, 27648, 40, 8),
    "Qwen/Qwen2.5-VL-72B-Instruct": _qwen(73_410_777_344, 704_573_696, 80, 8192, 29568, 64, 8),
    "OpenGVLab/InternVL3-1B-hf": _internvl(938_193_024, 24, 896, 4864, 14, 2),
    "OpenGVLab/InternVL3-2B-hf": _internvl(2_088_957_440, 28, 1536, 8960, 12, 2),
    "OpenGVLab/InternVL3-8B-hf": _internvl(7_944_373_760, 28, 3584, 18944, 28, 4),
    "OpenGVLab/InternVL3-14B-hf": _internvl(15_117_256_704, 48, 5120, 13824, 40, 8),
    "OpenGVLab/InternVL3_5-1B-HF": _internvl(1_060_897_792, 28, 1024, 3072, 16, 8, 128),
    "OpenGVLab/InternVL3_5-2B-HF": _internvl(2_348_347_392, 28, 2048, 6144, 16, 8, 128),
    "OpenGVLab/InternVL3_5-4B-HF": _internvl(4_732_489_216, 36, 2560, 9728, 32, 8, 128),
    "OpenGVLab/InternVL3_5-8B-HF": _internvl(8_528_318_464, 36, 4096, 12288, 32, 8, 128),
    "OpenGVLab/InternVL3_5-14B-HF": _internvl(15_119_523_840, 40, 5120, 17408, 40, 8, 128),
    "google/gemma-3-4b-it": _gemma(4_300_079_472, 34, 2560, 10240, 8, 4, 256),
    "google/gemma-3-12b-it": _gemma(12_187_325_040, 48, 3840, 15360, 16, 8, 256),
    "google/gemma-3-27b-it": _gemma(27_432_406_640, 62, 5376, 21504, 32, 16, 128),
}
