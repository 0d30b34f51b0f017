"""Where in a rollout's tokens rewards fall, and what is still to come from each token on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.records import Rollout


def at_step_ends(rollout: Rollout, rewards: Sequence[float] | np.ndarray) -> np.ndarray:
    """Rewards of the K steps, each on the step's last token (T,): there a reader first knows that the step is over."""
    tokens = np.zeros(len(rollout.token_ids))
    tokens[[span.end - 1 for span in rollout.steps]] = rewards
    return tokens


def at_last_token(rollout: Rollout, reward: float) -> np.ndarray:
    """A reward of the whole answer, on its last token (T,)."""
    tokens = np.zeros(len(rollout.token_ids))
    tokens[-1:] = reward
    return tokens


def rewards_to_go(rewards: np.ndarray) -> np.ndarray:
    """The sum of a token's own reward and all later ones (T,).

    >>> rewards_to_go(np.array([0.0, 1.0, 0.0, 5.0])).tolist()
    [6.0, 6.0, 5.0, 5.0]
    """
    return np.cumsum(rewards[::-1])[::-1]


def without_separators(advantages: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Advantages (T,) of each rollout, 0 where its mask (T,) is true; see `rewards.models.encoding.Encoder.separators`.

    Not for the rewards of PPO: a step's reward falls on its last token, which is its separator.

    >>> without_separators([np.array([0.5, 0.5, -1.0])], [np.array([False, True, False])])[0].tolist()
    [0.5, 0.0, -1.0]
    """
    return [np.where(mask, 0.0, tokens) for tokens, mask in zip(advantages, masks, strict=True)]
