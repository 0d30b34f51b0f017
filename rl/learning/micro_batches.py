"""How the rollouts of one optimizer step are cut into pieces, so that the result does not depend on the cut."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from rewards.models.sharding import Length, pack, pack_trees
from rewards.models.token_tree import find_stems, own_tokens
from rewards.records import Experience
from rewards.seeds import derive_seed
from rl.config.learner import LearnerConfig
from rl.config.trl_arguments import Loss


def mini_batches(rows: int, settings: LearnerConfig, seed: int, version: int) -> Iterator[list[int]]:
    """The rows of each optimizer step of one policy step: every row once an epoch, in an order by chance where there
    are several mini-batches."""
    for epoch in range(settings.epochs):
        order = np.arange(rows)
        if settings.mini_batches > 1:
            order = np.random.default_rng(derive_seed(seed, "mini-batches", version, epoch)).permutation(rows)
        for part in np.array_split(order, settings.mini_batches):
            if len(part):
                yield part.tolist()


def choose_micro_batches(
    experiences: Sequence[Experience], heads: Sequence[int], settings: LearnerConfig, ranks: int, packed: bool
) -> list[list[int]]:
    """Rows of similar length together, within the limit that the section has.

    Args:
        experiences: What the rows are made of.
        heads: Tokens of the prompt of each.
        settings: The section.
        ranks: Among whom they are shared.
        packed: Whether the rows of a prompt in a micro-batch are read as one.
    """
    tokens, paths = settings.micro_batch_tokens, [experience.path for experience in experiences]
    lengths = [Length(head, len(path)) for head, path in zip(heads, paths, strict=True)]
    if packed:
        prompts = [experience.prompt.id for experience in experiences]

        def body(places: Sequence[int]) -> int:
            theirs = [paths[place] for place in places]
            prefixes = [len(experiences[place].prefix) for place in places]
            return sum(map(len, own_tokens(theirs, find_stems([prompts[place] for place in places], prefixes, theirs))))

        most = math.inf if tokens else settings.micro_batch
        # In this order what begins alike is side by side.
        order = sorted(range(len(paths)), key=paths.__getitem__)
        return pack_trees(prompts, lengths, tokens or math.inf, most, ranks, order, body)
    if tokens:
        return pack(lengths, tokens, at_least=ranks)
    return micro_batches([sum(length) for length in lengths], settings.micro_batch, ranks)


def micro_batches(lengths: Sequence[int], most: int, ranks: int = 1) -> list[list[int]]:
    """Rows of similar length together, at most ``most`` of them, and equally many micro-batches for every rank.

    Where rows are too few for that, there are as many micro-batches as rows.

    >>> micro_batches([7, 3, 9, 4, 8], most=2)
    [[2, 4], [0, 3], [1]]
    >>> micro_batches([7, 3, 9, 4, 8], most=2, ranks=2)
    [[2, 4], [0], [3], [1]]
    """
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    wanted = math.ceil(math.ceil(len(order) / most) / ranks) * ranks
    return [part.tolist() for part in np.array_split(order, min(wanted, len(order)))]


def shares(batches: Sequence[list[int]], rank: int, ranks: int) -> Iterator[tuple[list[int], bool]]:
    """The micro-batches that a rank computes.

    All ranks have equally many, since some of them talk to each other in every pass: those that are not the rank's own
    (False) fill up, and count for nothing.
    """
    for start in range(0, len(batches), ranks):
        here = start + rank
        yield (batches[here], True) if here < len(batches) else (batches[-1], False)


def loss_share(loss: Loss, rows: float, tokens: float) -> float:
    """What a micro-batch's loss counts, so that the sum is the loss of the whole mini-batch.

    TRL takes a mean over the rows or the tokens of what it is given; `dapo`, `cispo` and `vespo` divide by the tokens
    of the whole mini-batch, which they are told.

    Args:
        loss: Name of the loss.
        rows, tokens: Of the micro-batch, as shares of the mini-batch's.
    """
    if loss in ("dapo", "cispo", "vespo"):
        return 1.0
    return tokens if loss == "bnpo" else rows
