"""What a forward pass keeps for the backward pass, in bytes: counted from what Transformers' layers save for autograd.

Of every token and layer, with hidden size H, feed-forward size I, widths of queries Q and keys K:

    norms      input and result of each, float32, since the normalisations compute in it
    inputs     of the linear layers that learn; adapters under autocast, and whole layers in it, each cast their own
    attention  queries, keys, values, and the result; keys and values are repeated for every head (Q instead of K)
               where rows are padded to one length
    gate       the feed-forward part: gate, its activation, the other branch, and their product
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rl.instruments.planning.model_shape import ModelShape, Tower

FLOAT = 4
ON_THEIR_WAY = 5  # layers' inputs that TRL holds while it copies them
LOGITS_TILE = 32768  # vocabulary rows that TRL's fused output layer computes at a time


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass.

    Attributes:
        rows: Of the micro-batch.
        tokens: Of each row, prompt, image and completion together.
        image_tokens: Of those, what stands for images.
        completion_tokens: Of those, the answer.
        learns: All weights (float32), all but the vision tower's, or LoRA adapters alone.
        width: Bytes of a number of the computation: 4, or 2 of bfloat16.
        autocast: Whether bfloat16 is computed in by autocast; without it, adapters cast what they read to float32.
        checkpointing: Whether only each layer's input is kept, and the layer computed again.
        offload: Whether even that is kept elsewhere, but for those on their way there.
        logits: Which are made: none, TRL's tiles of them, or those of all answer tokens.
    """

    rows: int
    tokens: int
    image_tokens: int
    completion_tokens: int
    learns: Literal["all", "language", "adapters"]
    width: int
    autocast: bool = True
    checkpointing: bool = False
    offload: bool = False
    logits: Literal["none", "tiles", "all"] = "tiles"


def activation_bytes(shape: ModelShape, taken: Pass) -> int:
    """What a pass holds at its peak, weights and gradients apart."""
    tokens = taken.rows * taken.tokens
    patches = taken.rows * taken.image_tokens * shape.patches if taken.learns == "all" else 0
    stacks = [
        (shape.language, tokens, _language_layer(shape.language, taken)),
        (shape.vision, patches, _vision_layer(shape.vision, taken)),
    ]
    if taken.checkpointing:
        # Where weights are float32, so is the sum that runs through the layers.
        stream = taken.width if taken.learns == "adapters" else FLOAT
        most = ON_THEIR_WAY if taken.offload else math.inf
        kept = sum(int(min(tower.layers, most)) * count * tower.hidden * stream for tower, count, _ in stacks)
        kept += max(count * layer for _, count, layer in stacks)
    else:
        kept = sum(tower.layers * count * layer for tower, count, layer in stacks)
    return kept + 2 * FLOAT * tokens * shape.language.hidden + _logits_bytes(shape, taken)


def _language_layer(tower: Tower, taken: Pass) -> int:
    """Of one token in one layer."""
    hidden, inner, query = tower.hidden, tower.intermediate, tower.query_width
    key = query if taken.rows > 1 else tower.key_width
    normalised = tower.norms * hidden + tower.head_norms * (query + tower.key_width)
    attention = query + 2 * key
    separate = 5 * hidden + query  # what q, k, v, o, gate and up read, each in a copy of its own
    shared = 2 * hidden + query
    if taken.learns != "adapters":
        inputs = shared if taken.width == FLOAT else separate
        return 2 * FLOAT * normalised + taken.width * (inputs + attention + 4 * inner)
    read = FLOAT * shared if taken.width == FLOAT else (taken.width if taken.autocast else FLOAT) * separate
    down = (taken.width if taken.autocast else FLOAT) * inner
    return FLOAT * normalised + read + down + taken.width * (attention + query + 3 * inner)


def _vision_layer(tower: Tower, taken: Pass) -> int:
    """Of one patch in one layer; it learns as a whole or not at all."""
    if tower.gated:
        return 2 * FLOAT * 2 * tower.hidden + taken.width * (8 * tower.hidden + 4 * tower.intermediate)
    # LayerNorm keeps its input alone; two learned scales, as InternVL has them, keep theirs.
    return FLOAT * 2 * tower.hidden + taken.width * (8 * tower.hidden + 2 * tower.intermediate)


def _logits_bytes(shape: ModelShape, taken: Pass) -> int:
    tokens = taken.rows * taken.completion_tokens
    if taken.logits == "tiles":
        return 2 * FLOAT * tokens * min(LOGITS_TILE, shape.vocabulary)
    # As computed, in float32, as log-probabilities, and the gradient of those.
    return (taken.width + 3 * FLOAT) * tokens * shape.vocabulary if taken.logits == "all" else 0
