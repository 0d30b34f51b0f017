"""In which order the rows of a split are asked: as they stand or shuffled, mixed by source, and in how many passes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rewards.seeds import derive_seed

BLOCK = 64
"""Prompts among which the shares of the sources are kept, but for a whole prompt each."""


class Order:
    """Which row the prompt of each number is: always the same one, without a state to be saved.

    A pass takes every row once. Where the sources have shares, each goes through its own rows, pass after pass, and the
    next prompt's source is drawn by its share.

    Args:
        rows: The rows of each source, in order.
        shares: Of the prompts, one a source, above 0 (any scale); empty to go through all rows alike.
        shuffle: Whether a pass takes the rows in an order by chance, another one each time.
        seed: Of all that is by chance.

    >>> order = Order({"a": np.array([0, 2]), "b": np.array([1])}, {}, shuffle=False, seed=0)
    >>> [order.row(index) for index in range(4)], order.passes(4)
    ([0, 1, 2, 0], 1.3333333333333333)
    """

    def __init__(self, rows: Mapping[str, np.ndarray], shares: Mapping[str, float], shuffle: bool, seed: int) -> None:
        self._rows = [rows[source] for source in shares] or [np.sort(np.concatenate([*rows.values()]))]
        self._bounds = np.cumsum([*shares.values()] or [1.0])
        self._shuffle, self._seed = shuffle, seed
        self._before = [np.zeros(len(self._rows), dtype=np.int64)]
        self._passes: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        return sum(map(len, self._rows))

    def row(self, index: int) -> int:
        """The row of a prompt, given its number from 0 on."""
        group, place = self._place(index)
        number, place = divmod(place, len(self._rows[group]))
        return int(self._pass(group, number)[place])

    def passes(self, count: int) -> float:
        """Passes over the rows in the first ``count`` prompts: with shares, the mean over the sources, by share."""
        if len(self._rows) == 1:
            return count / len(self)
        block, rest = divmod(count, BLOCK)
        asked = self._asked_before(block) + np.bincount(self._drawn(block)[:rest], minlength=len(self._rows))
        shares = np.diff(self._bounds, prepend=0) / self._bounds[-1]
        return float(shares @ (asked / [len(rows) for rows in self._rows]))

    def _place(self, index: int) -> tuple[int, int]:
        """The group of a prompt, and its number within that."""
        if len(self._rows) == 1:
            return 0, index
        block, place = divmod(index, BLOCK)
        drawn = self._drawn(block)
        group = int(drawn[place])
        return group, int(self._asked_before(block)[group] + (drawn[:place] == group).sum())

    def _drawn(self, block: int) -> np.ndarray:
        """The groups of the prompts of a block: as many of each as its share, in an order by chance."""
        generator = np.random.default_rng(derive_seed(self._seed, "sources", block))
        levels = (np.arange(BLOCK) + generator.random()) / BLOCK * self._bounds[-1]
        return generator.permutation(np.searchsorted(self._bounds, levels, side="right"))

    def _asked_before(self, block: int) -> np.ndarray:
        """Prompts of each group in the blocks before one."""
        while len(self._before) <= block:
            more = np.bincount(self._drawn(len(self._before) - 1), minlength=len(self._rows))
            self._before.append(self._before[-1] + more)
        return self._before[block]

    def _pass(self, group: int, number: int) -> np.ndarray:
        """The rows of a group in the order of one pass."""
        if not self._shuffle:
            return self._rows[group]
        if (group, number) not in self._passes:
            # Prompts under way may be of the pass before; others are made anew where a run goes on.
            for old in [key for key in self._passes if key[0] == group][:-1]:
                del self._passes[old]
            generator = np.random.default_rng(derive_seed(self._seed, "order", group, number))
            self._passes[group, number] = generator.permutation(self._rows[group])
        return self._passes[group, number]
