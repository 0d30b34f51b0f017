"""Several ranks, one model: each holds all of it (DDP), or a part of every layer (FSDP2, PyTorch's `fully_shard`)."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from rewards.models.accelerator import Accelerator

Sharding = Literal["ddp", "fsdp2"]


def spread(
    model: torch.nn.Module, layers: set[str], methods: list[str], accelerator: Accelerator, sharding: Sharding
) -> torch.nn.Module:
    """Make a model one of the ranks that ``accelerator`` knows; an optimizer is made of its parameters afterwards.

    Accelerate itself shards on accelerators alone; done here, it is the same on a CPU.

    Args:
        model: The same on every rank.
        layers: Class names of the layers to gather one at a time, with `fsdp2`.
        methods: Names of methods beside ``forward`` that compute with the weights.
        accelerator: Of the ranks.
        sharding: Which of the two.
    """
    if accelerator.num_processes == 1 or sharding == "ddp":
        return accelerator.prepare(model)
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    # What is kept is float32; what is computed with, and gathered for it, is what the accelerator says.
    compute = torch.bfloat16 if accelerator.mixed_precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32 if compute else None)
    for module in model.modules():
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh, mp_policy=policy)
    # Between two passes every weight is in its parts, so that it can be saved, put back and updated.
    fully_shard(model, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
    for method in methods:
        register_fsdp_forward_method(model, method)
    return model


def all_say(answer: bool) -> bool:
    """Whether every rank of this process's group, if it has one, says so; all of them ask. What each finds by numbers
    that are rounded, two may find differently, and wait for one another for ever."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return answer
    answers: list[bool | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(answers, answer)
    return all(answers)


class Length(NamedTuple):
    """Tokens of a row: of its head, which is padded on the left, and of its body, padded on the right."""

    head: int
    body: int


def pack(lengths: Sequence[Length], most_tokens: int, at_least: int = 1) -> list[list[int]]:
    """Split rows into micro-batches of similar length.

    Args:
        lengths: Of each row.
        most_tokens: Most tokens of a micro-batch, padding included; a longer row goes alone.
        at_least: Micro-batches to make, if there are as many rows.

    Returns:
        The places of each micro-batch's rows, longest rows first.

    >>> pack([Length(0, 3), Length(5, 4), Length(1, 3), Length(6, 4)], 20)
    [[3, 1], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda place: (-sum(lengths[place]), place))
    most_rows = max(1, len(order) // at_least)
    packed: list[list[int]] = []
    head = body = 0
    for place in order:
        wider = max(head, lengths[place].head), max(body, lengths[place].body)
        if packed and len(packed[-1]) < most_rows and (len(packed[-1]) + 1) * sum(wider) <= most_tokens:
            packed[-1].append(place)
            head, body = wider
        else:
            packed.append([place])
            head, body = lengths[place]
    return packed


def pack_trees(
    prompts: Sequence[Hashable],
    lengths: Sequence[Length],
    most_tokens: float = math.inf,
    most_rows: float = math.inf,
    at_least: int = 1,
    order: Sequence[int] | None = None,
    body: Callable[[Sequence[int]], int] | None = None,
) -> list[list[int]]:
    """`pack`, where the rows of one prompt are read as one (`rewards.models.token_tree`): they stay together if they
    fit, and are else cut into as few parts as hold them, of equally many rows where that is possible.

    Args:
        prompts: What tells each row's prompt from others.
        lengths: Of each row.
        most_tokens: Most tokens of a micro-batch, padding included; a longer row goes alone.
        most_rows: Most rows of a micro-batch.
        at_least: Micro-batches to make, if there are as many rows.
        order: Of the rows, wherever those of a prompt are cut; without it, as they come.
        body: Tokens of some of one prompt's rows as they are read together; without it, the sum of theirs.

    >>> pack_trees("aabba", [Length(5, 2), Length(5, 3), Length(4, 1), Length(4, 1), Length(5, 2)], 20)
    [[0, 1, 4], [2, 3]]
    >>> pack_trees("aaaa", [Length(5, 2)] * 4, most_rows=3, at_least=2)
    [[0, 1], [2, 3]]
    >>> pack_trees("aaaa", [Length(5, 20), Length(5, 2), Length(5, 2), Length(5, 2)], 26)
    [[0], [1, 2, 3]]
    """
    members: dict[Hashable, list[int]] = {}
    for place in order or range(len(prompts)):
        members.setdefault(prompts[place], []).append(place)

    def length(rows: Sequence[int]) -> Length:
        return Length(lengths[rows[0]].head, body(rows) if body else sum(lengths[place].body for place in rows))

    def is_too_much(rows: Sequence[int]) -> bool:
        return len(rows) > most_rows or sum(length(rows)) > most_tokens

    def cut(rows: list[int]) -> list[list[int]]:
        if not is_too_much(rows):
            return [rows]
        filled, start = [], 0
        while start < len(rows):
            counts = range(start + 1, len(rows) + 1)
            end = start + max(1, bisect_left(counts, True, key=lambda end: is_too_much(rows[start:end])))
            filled.append(rows[start:end])
            start = end
        alike = [piece.tolist() for piece in np.array_split(rows, len(filled))]
        return filled if any(map(is_too_much, alike)) else alike

    def tokens(pieces: Sequence[list[int]]) -> int:
        # Parts of one prompt are read as one again where they meet: small ones between which a large one lay.
        met: dict[Hashable, list[int]] = {}
        for rows in pieces:
            met.setdefault(prompts[rows[0]], []).extend(rows)
        return len(met) * sum(max(sides) for sides in zip(*map(length, met.values()), strict=True))

    trees = [piece for rows in members.values() for piece in cut(rows)]
    while len(trees) < min(at_least, len(lengths)):
        largest = max(trees, key=len)
        trees.remove(largest)
        trees += [piece.tolist() for piece in np.array_split(largest, 2)]
    packed: list[list[list[int]]] = []
    most_trees = max(1, len(trees) // at_least)
    for rows in sorted(trees, key=lambda rows: -sum(length(rows))):
        together = [*packed[-1], rows] if packed else []
        fits = 0 < len(together) <= most_trees and sum(map(len, together)) <= most_rows
        if fits and tokens(together) <= most_tokens:
            packed[-1].append(rows)
        else:
            packed.append([rows])
    return [[place for rows in batch for place in rows] for batch in packed]
