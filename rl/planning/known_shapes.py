"""Shapes of published checkpoints, so that a plan needs no network; a test counts them on the models themselves."""

from __future__ import annotations

from rl.planning.model_shape import ModelShape, Tower


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
