"""What new weights take of GPUs on their way from the learner to the engines, beside what is there at rest, in bytes.

object_store  of the learner one tensor at a time, in the engines' number format
nccl          vLLM's chunks: tensors until they exceed 1 GiB, then copied into one; two chunks at both ends
ipc           all of the learner's weights in the engines' number format, until an engine has copied them

Ranks that share weights gather a tensor in float32 first. An engine makes one of its modules anew at a time. Adapters
that travel alone are small.
"""

from __future__ import annotations

from rl.config import Config
from rl.instruments.planning.activations import FLOAT
from rl.instruments.planning.model_shape import ModelShape

CHUNK = 2**30
"""vLLM's DEFAULT_PACKED_BUFFER_SIZE_BYTES."""


def computed_width(config: Config) -> int:
    """Bytes of a number that is computed with."""
    return 2 if config.policy.dtype == "bfloat16" else FLOAT


def sending_bytes(config: Config, shape: ModelShape) -> float:
    """Of the learner's first rank, which sends."""
    route, width, learner = config.weight_route, computed_width(config), config.learner
    largest = _largest_tensor(shape)
    gathered = FLOAT * largest if learner.ranks > 1 and learner.sharding != "ddp" else 0
    is_copied = width < FLOAT or gathered > 0
    if route == "adapters":
        return 0.0
    if route == "ipc":
        return float(width * shape.parameters * is_copied)
    if route == "nccl":
        return gathered + _chunk(width, shape) * (2 + is_copied)
    return gathered + width * largest * (width < FLOAT)


def receiving_bytes(config: Config, shape: ModelShape) -> float:
    """Of an engine, on one of its GPUs."""
    if config.engine.kind == "hf" or config.weight_route == "adapters":
        return 0.0
    width, language = computed_width(config), shape.language
    # Where a model has two matrices for gate and branch, vLLM has one.
    module = width * max(_largest_tensor(shape), 2 * language.hidden * language.intermediate)
    chunks = 2 * _chunk(width, shape) if config.weight_route == "nccl" else 0
    return chunks + module / config.engine.tensor_parallel


def _chunk(width: int, shape: ModelShape) -> float:
    return min(CHUNK + width * _largest_tensor(shape), width * shape.parameters)


def _largest_tensor(shape: ModelShape) -> int:
    """The table of words, a matrix of the feed-forward part, or one that brings patches together."""
    language = shape.language
    return max(
        language.hidden * max(shape.vocabulary, language.intermediate), (shape.vision.hidden * shape.patches) ** 2
    )
