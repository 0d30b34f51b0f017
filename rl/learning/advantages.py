"""From what each token earned, and what was expected, to advantages and returns: generalized advantage estimation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import lfilter

EPSILON = 1e-8


def generalized_advantages(
    rewards: np.ndarray, values: np.ndarray, discount: float = 1.0, gae_lambda: float = 0.95
) -> np.ndarray:
    """How much better than expected each token of one rollout was, (T,), in units of the reward.

    Generalized advantage estimation (Schulman et al., arXiv 1506.02438, equation 16):

        delta_t = r_t + gamma V_{t+1} - V_t
        A_t = delta_t + gamma lambda A_{t+1}

    where nothing follows the last token: V_T = A_T = 0, also where a rollout was cut off. ``A_t + V_t`` is the
    lambda-return, which the value model learns.

    An answer whose last token earns 1, of which half was expected all along:

    >>> rewards, values = np.array([0.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.5])
    >>> generalized_advantages(rewards, values, discount=1.0, gae_lambda=0.5).tolist()
    [0.125, 0.25, 0.5]
    >>> generalized_advantages(rewards, values, discount=1.0, gae_lambda=1.0).tolist()
    [0.5, 0.5, 0.5]

    Args:
        rewards: What each token earned (T,).
        values: The value of the state before each token (T,).
        discount: gamma, what the reward of the next token is worth at this one.
        gae_lambda: 1 trusts returns alone (no bias), 0 the next value alone (least variance).

    Raises:
        ValueError: There are not as many values as rewards.
    """
    rewards, values = np.asarray(rewards, dtype=float), np.asarray(values, dtype=float)
    if rewards.shape != values.shape or rewards.ndim != 1:
        raise ValueError(f"rewards {rewards.shape} and values {values.shape} are not of the same tokens")
    following = np.append(values[1:], 0.0)[: len(values)]
    surprises = rewards + discount * following - values
    # A linear recursion from the last token to the first is a filter of the reversed sequence.
    return lfilter([1.0], [1.0, -discount * gae_lambda], surprises[::-1])[::-1]


def whitened(advantages: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The same with mean 0 and standard deviation 1 over all tokens of all rollouts; dimensionless.

    PPO's normalisation (arXiv 2006.05990, choice C67), over a whole policy step: it frees the learning rate from the
    rewards' scale. Advantages that are all alike become 0.

    >>> [rollout.tolist() for rollout in whitened([np.array([1.0, 3.0]), np.array([1.0, 3.0])])]
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    tokens = np.concatenate([np.zeros(0), *advantages])
    if not len(tokens):
        return list(advantages)
    mean, spread = tokens.mean(), tokens.std()
    # Advantages that differ by rounding alone have nothing to be scaled up.
    scale = 1.0 / spread if spread > EPSILON * max(1.0, abs(mean)) else 0.0
    return [(rollout - mean) * scale for rollout in advantages]


def explained_variance(values: Sequence[np.ndarray], returns: Sequence[np.ndarray]) -> float:
    """The share of the returns' variance, over all tokens, that the values foretold: 1 at best, 0 for a constant,
    negative where they are worse than one; NaN where the returns do not vary.

    >>> explained_variance([np.array([0.0, 1.0])], [np.array([0.0, 2.0])])
    0.75
    """
    foretold, seen = np.concatenate([np.zeros(0), *values]), np.concatenate([np.zeros(0), *returns])
    spread = seen.var() if len(seen) else 0.0
    return float(1.0 - (seen - foretold).var() / spread) if spread > EPSILON**2 else float("nan")
