"""Tokens that only separate steps, left without advantage.

A policy that is paid for a line break learns to write line breaks; PURE (arXiv 2504.15275) gives such tokens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def without_separators(advantages: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Advantages (T,) of each rollout, 0 where its mask (T,) is true; see `rewards.encoding.Encoder.separators`.

    Not for the rewards of PPO: a step's reward falls on its last token, which is its separator.

    >>> without_separators([np.array([0.5, 0.5, -1.0])], [np.array([False, True, False])])[0].tolist()
    [0.5, 0.0, -1.0]
    """
    return [np.where(mask, 0.0, tokens) for tokens, mask in zip(advantages, masks, strict=True)]
