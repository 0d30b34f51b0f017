"""Answers to one prompt as one row in which every token is once: the prompt, all that grows from it, and nothing twice.

    [prompt | answer 1 | what goes on from answer 1 | answer 2 | ...]

An answer hangs on its prompt, and a continuation on an answer, after some of that answer's tokens. Tokens lie in
depth-first order, what hangs deepest on a branch first: so each branch lies in one piece, and what grows from a token
lies between it and ``leave`` of it. A token sees its own path to the root and nothing else:

    q sees k    if and only if    enter(k) <= enter(q) < leave(k),    enter being the place in the row.

Its position is that on its own path, too, so that to the model every answer is in a row of its own, just as
`rewards.models.encoding.Encoder.batch` would have it. How attention is held to that is in `tree_attention`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from rewards.models.encoding import Batch, Encoder
from rewards.records import Prompt


@dataclass(frozen=True)
class Stem:
    """Where a completion goes on from another one of the same prompt.

    Attributes:
        completion: Which one.
        tokens: After how many of that one's own tokens.
    """

    completion: int
    tokens: int


@dataclass(frozen=True)
class Branch:
    """Where a completion lies among all that grows from its prompt.

    Attributes:
        start: Of its first token.
        path: The places of all tokens from the prompt to its last one, its own included.
        own: How many of them, at the end, are its own.
        level: How many completions it goes on from.
    """

    start: int
    path: np.ndarray
    own: int
    level: int


def find_stems(
    prompts: Sequence[Hashable], prefixes: Sequence[int], paths: Sequence[tuple[int, ...]]
) -> list[Stem | None]:
    """What each completion that begins with a prefix can go on from: the first one of its prompt that has the prefix.
    None if it hangs on the prompt, itself or with its prefix, since there is no other that has it.

    Args:
        prompts: What tells the prompt of each from others.
        prefixes: Tokens of the prefix of each, 0 for none.
        paths: The tokens of each, prefixes included.

    >>> find_stems("aab", [0, 2, 2], [(5, 6, 7), (5, 6, 8), (5, 6, 9)])
    [None, Stem(completion=0, tokens=2), None]
    """
    stems: list[Stem | None] = [None] * len(paths)
    roots: dict[Hashable, list[int]] = {}
    # Of prefixes that nobody has, short ones may begin long ones.
    for number in sorted(range(len(paths)), key=lambda number: (prefixes[number] > 0, -prefixes[number])):
        there, length = roots.setdefault(prompts[number], []), prefixes[number]
        begin_alike = (root for root in there if paths[root][:length] == paths[number][:length])
        parent = next(begin_alike, None) if length else None
        if parent is None:
            there.append(number)
        else:
            stems[number] = Stem(parent, length)
    return stems


def own_tokens(paths: Sequence[tuple[int, ...]], stems: Sequence[Stem | None]) -> list[tuple[int, ...]]:
    """Of completions what they do not go on from."""
    return [path[stem.tokens :] if stem else path for path, stem in zip(paths, stems, strict=True)]


def lay_out(lengths: Sequence[int], stems: Sequence[Stem | None]) -> list[Branch]:
    """Where the completions of one prompt lie, places counted from the end of the prompt.

    Args:
        lengths: Tokens of each, perhaps 0.
        stems: What each goes on from; None for the prompt.

    Example: a continuation of the first completion's first two tokens, and a second completion.

    >>> [branch.path.tolist() for branch in lay_out([3, 2, 2], [None, Stem(0, 2), None])]
    [[0, 1, 2], [0, 1, 3, 4], [5, 6]]
    """
    hanging: dict[int | None, list[int]] = {}
    for number, stem in enumerate(stems):
        hanging.setdefault(stem.completion if stem else None, []).append(number)
    laid: dict[int, Branch] = {}
    begin, ahead = 0, hanging.get(None, [])[::-1]
    while ahead:
        number = ahead.pop()
        before, level, stem = np.zeros(0, int), 0, stems[number]
        if stem is not None:
            parent = laid[stem.completion]
            before, level = parent.path[: len(parent.path) - parent.own + stem.tokens], parent.level + 1
        own = np.arange(begin, begin + lengths[number])
        laid[number] = Branch(begin, np.concatenate([before, own]), len(own), level)
        begin += len(own)
        # Last in is first out: the deepest, and of several at one place the first.
        ahead += sorted(hanging.get(number, []), key=lambda child: (_tokens(stems[child]), -child))
    return [laid[number] for number in range(len(lengths))]


def _tokens(stem: Stem | None) -> int:
    return stem.tokens if stem else 0


@dataclass(frozen=True)
class Level:
    """N branches that are equally far from their roots, and what their T tokens each, at most, look at.

    Attributes:
        trees: Whose they are (N,).
        queries: The places of their own tokens (N, T); where there are fewer, of any.
        keys: The places along their paths (N, K), first those of the prompt with its padding.
        positions: Of the queries along their paths (N, T).
        lengths: Of the paths (N,).
    """

    trees: torch.Tensor
    queries: torch.Tensor
    keys: torch.Tensor
    positions: torch.Tensor
    lengths: torch.Tensor


@dataclass(frozen=True)
class TokenTree:
    """B trees as a model's attention reads them, in rows of L places, the first P of which are the prompts'.

    Places of tensors are counted through all rows.

    Attributes:
        prompt: P.
        leaves: Where what grows from each token ends, within its row (B, L); padding sees itself alone.
        positions: Of each token along its own path (B, L): its place in the row that it would have for itself.
        levels: Of the branches, from those that hang on prompts.
        slots: Where each token's output is (B * L,), counted through those of the prompts (B * P), of the levels
            (N * T each), and one for padding.
        states: The states before and after each token of each completion (R, T + 1).
    """

    prompt: int
    leaves: torch.Tensor
    positions: torch.Tensor
    levels: tuple[Level, ...]
    slots: torch.Tensor
    states: torch.Tensor

    def to(self, device: torch.device | str) -> TokenTree:
        """On a device."""
        return _moved(self, device)

    def unfold(self, states: torch.Tensor) -> torch.Tensor:
        """Of the states of all places (B, L, H) those of each completion (R, T + 1, H), right-padded: first the one
        that its first token follows on, as if every prompt were one token long."""
        return states.flatten(0, 1).index_select(0, self.states.flatten()).unflatten(0, self.states.shape)


@dataclass(frozen=True)
class PackedBatch:
    """R completions, packed into the rows of their B prompts.

    Attributes:
        rows: The prompts, each followed by all that grows from it.
        tree: How that is to be read.
        prompt_ids, prompt_mask: The last token of each completion's prompt (R, 1), which is never padding.
        completion_ids, completion_mask: (R, T), right-padded.
    """

    rows: Batch
    tree: TokenTree
    prompt_ids: torch.Tensor
    completion_ids: torch.Tensor
    completion_mask: torch.Tensor

    @property
    def prompt_mask(self) -> torch.Tensor:
        """See above."""
        return torch.ones_like(self.prompt_ids)

    def model_inputs(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """Keyword arguments of a model that reads trees (`rewards.models.tree_attention.read_trees`)."""
        return {**self.rows.model_inputs(device), "tree": self.tree.to(device), "use_cache": False}


def pack_batch(
    encoder: Encoder,
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[int]],
    heads: Sequence[str] | None = None,
    stems: Sequence[Stem | None] | None = None,
) -> PackedBatch:
    """R completions packed: those of equal prompts share a row. Arguments as of `Encoder.batch`; with ``stems``
    completions are what goes on from others."""
    stems = stems or [None] * len(completions)
    trees: dict[Hashable, list[int]] = {}
    for number, prompt in enumerate(prompts):
        trees.setdefault((prompt.id, heads[number] if heads else None), []).append(number)
    branches: dict[int, tuple[int, Branch]] = {}
    rows: list[list[int]] = []
    for row, members in enumerate(trees.values()):
        place = {number: local for local, number in enumerate(members)}
        theirs = [stems[number] for number in members]
        inner = [Stem(place[stem.completion], stem.tokens) if stem else None for stem in theirs]
        laid = lay_out([len(completions[number]) for number in members], inner)
        branches |= {number: (row, branch) for number, branch in zip(members, laid, strict=True)}
        order = sorted(place, key=lambda number: branches[number][1].start)
        rows.append([token for number in order for token in completions[number]])
    firsts = [members[0] for members in trees.values()]
    batch = encoder.batch(
        [prompts[first] for first in firsts], rows, [heads[first] for first in firsts] if heads else None
    )
    ids = [torch.tensor(list(completion), dtype=torch.long) for completion in completions]
    found = [branches[number] for number in range(len(completions))]
    return PackedBatch(
        rows=batch,
        tree=_tree(found, batch),
        prompt_ids=batch.prompt_ids[[row for row, _ in found], -1:],
        completion_ids=_padded(ids, encoder.fill_token),
        completion_mask=_padded([torch.ones_like(row) for row in ids], 0),
    )


def _tree(branches: Sequence[tuple[int, Branch]], batch: Batch) -> TokenTree:
    """Of branches, each with its row."""
    (rows, prompt), length = batch.prompt_ids.shape, batch.prompt_ids.shape[1] + batch.completion_ids.shape[1]
    leaves = np.tile(np.arange(1, length + 1), (rows, 1))
    leaves[:, :prompt] = length
    positions = np.tile(np.arange(length), (rows, 1))
    states = []
    for row, branch in branches:
        path = prompt + branch.path
        if len(path):
            leaves[row, path] = np.maximum(leaves[row, path], path[-1] + 1)
            positions[row, path] = prompt + np.arange(len(path))
        before = np.concatenate([[prompt - 1], path])[-branch.own - 1 :]
        states.append(torch.as_tensor(row * length + before))
    slots = np.full((rows, length), -1)
    slots[:, :prompt] = np.arange(rows * prompt).reshape(rows, prompt)
    levels, used = [], rows * prompt
    for number in range(1 + max((branch.level for _, branch in branches), default=-1)):
        there = [(row, branch) for row, branch in branches if branch.level == number and branch.own]
        if there:
            levels.append(_level(there, prompt, length))
            longest = levels[-1].queries.shape[1]
            for place, (row, branch) in enumerate(there):
                begin = prompt + branch.start
                slots[row, begin : begin + branch.own] = used + place * longest + np.arange(branch.own)
            used += len(there) * longest
    slots[slots < 0] = used
    return TokenTree(
        prompt=prompt,
        leaves=torch.as_tensor(leaves),
        positions=torch.as_tensor(positions),
        levels=tuple(levels),
        slots=torch.as_tensor(slots.flatten()),
        states=_padded(states, 0),
    )


def _level(branches: Sequence[tuple[int, Branch]], prompt: int, length: int) -> Level:
    """Of branches with tokens of their own."""
    queries, keys, positions = [], [], []
    for row, branch in branches:
        own = np.arange(len(branch.path) - branch.own, len(branch.path))
        path = np.concatenate([np.arange(prompt), prompt + branch.path])
        queries.append(torch.as_tensor(row * length + prompt + branch.path[own]))
        keys.append(torch.as_tensor(row * length + path))
        positions.append(torch.as_tensor(prompt + own))
    return Level(
        trees=torch.tensor([row for row, _ in branches]),
        queries=_padded(queries, 0),
        keys=_padded(keys, 0),
        positions=_padded(positions, prompt),  # what sees nothing at all may have no gradient
        lengths=torch.tensor([len(path) for path in keys]),
    )


def _padded(rows: Sequence[torch.Tensor], value: int) -> torch.Tensor:
    """Right-padded (R, T)."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def _moved(value: Any, device: torch.device | str) -> Any:
    """A value with all its tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_moved(part, device) for part in value)
    if isinstance(value, TokenTree | Level):
        return type(value)(**{field.name: _moved(getattr(value, field.name), device) for field in fields(value)})
    return value
