"""How large a vision-language model is: what a memory estimate needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import chain
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

    @property
    def layer_matrices(self) -> int:
        """Numbers of the matrices of a layer that has a gate."""
        attention = 2 * self.hidden * (self.query_width + self.key_width)
        return attention + 3 * self.hidden * self.intermediate

    def adapter_parameters(self, rank: int) -> int:
        """Of LoRA on all linear layers (`rewards.models.backbone.add_lora`): rank x (inputs + outputs) of each."""
        attention = 2 * (self.hidden + self.query_width) + 2 * (self.hidden + self.key_width)
        return self.layers * rank * (attention + 3 * (self.hidden + self.intermediate))


NO_TOWER = Tower(0, layers=0, hidden=0, intermediate=0, heads=0, key_value_heads=0, head_size=0)
"""Of a model that sees no pictures."""


@dataclass(frozen=True)
class ModelShape:
    """A language model with a vision tower before it, or with `NO_TOWER`.

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


@cache
def find_shape(checkpoint: str, trust_remote_code: bool = False) -> ModelShape | None:
    """The shape of a checkpoint: of a known name, a local folder, or a hub name that is in the cache; asks no network.

    None where it cannot be known.
    """
    if checkpoint in KNOWN_SHAPES:
        return KNOWN_SHAPES[checkpoint]
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=trust_remote_code)
        return shape_of(config)
    except Exception:  # a configuration can be wrong in any way
        return None


def shape_of(config: Any) -> ModelShape:
    """The shape of the model that a Transformers configuration describes, counted on a model without memory (the meta
    device).

    Raises:
        AttributeError, ValueError: It is no language model, with or without a vision tower.
    """
    from rewards.models.architecture import empty_model, layers_of, vision_tower

    model = empty_model(config)
    tower, text = vision_tower(model), config.get_text_config()
    vision = sum(weight.numel() for weight in tower.parameters()) if tower is not None else 0
    language = sum(weight.numel() for weight in model.parameters()) - vision
    return ModelShape(
        _language_tower(text, language, layers_of(model.get_decoder())),
        _vision_tower(config.vision_config, vision, layers_of(tower)) if tower is not None else NO_TOWER,
        text.vocab_size,
        _patches_of_a_token(config) if vision else 1,
    )


def _language_tower(config: Any, parameters: int, layers: Any) -> Tower:
    names = {name.rpartition(".")[0] for layer in layers for name, _ in layer.named_parameters()}

    def widest(name: str) -> int:
        """The largest of all layers, of which some may differ; Gemma 3n lists them."""
        each = config.per_layer_config if getattr(config, "is_heterogeneous", False) else [config]
        found = [getattr(layer, name, None) or 0 for layer in each]
        return max(chain(*(value if isinstance(value, list) else [value] for value in found)))

    heads = widest("num_attention_heads") or 1  # Mamba has none
    experts = max(widest("num_experts_per_tok"), widest("top_k_experts")) * widest("moe_intermediate_size")
    return Tower(
        parameters,
        config.num_hidden_layers,
        config.hidden_size,
        max(widest("intermediate_size"), experts) or 4 * config.hidden_size,
        heads,
        widest("num_key_value_heads") or heads,
        widest("head_dim") or config.hidden_size // heads,
        norms=len({name for name in names if name.endswith("layernorm")}),
        head_norms=any(name.endswith("q_norm") for name in names),
    )


def _vision_tower(config: Any, parameters: int, layers: Any) -> Tower:
    """What its layers hold: configurations have many names for it."""
    shapes = {name: tuple(p.shape) for name, p in layers[0].named_parameters()}
    hidden = next(shape[0] for name, shape in shapes.items() if "norm" in name.split(".")[0])
    feed_forward = [shape for name, shape in shapes.items() if "att" not in name and len(shape) == 2]
    names = ("num_attention_heads", "num_heads", "attention_heads")
    heads = next(getattr(config, name) for name in names if hasattr(config, name))
    inner, gated = max(map(max, feed_forward)), len(feed_forward) == 3
    return Tower(parameters, len(layers), hidden, inner, heads, heads, hidden // heads, gated=gated)


def _patches_of_a_token(config: Any) -> int:
    vision = config.vision_config
    names = (vision, "spatial_merge_size"), (config, "spatial_merge_size"), (config, "scale_factor")
    for owner, name in (*names, (vision, "pooling_kernel_size")):
        if side := getattr(owner, name, None):
            return side**2
    tokens = getattr(config, "mm_tokens_per_image", None) or getattr(config, "image_seq_length", None)
    if not tokens:
        return 1
    side, patch = (size if isinstance(size, int) else size[0] for size in (vision.image_size, vision.patch_size))
    return max(1, (side // patch) ** 2 // tokens)


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
