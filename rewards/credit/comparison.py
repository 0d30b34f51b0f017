"""Rewards compared with those of other rollouts: one reward a rollout (B,) and its group (B,) to advantages (B,).

What is compared with nothing, like the only rollout of its group, has advantage 0. Deviations are sample deviations, of
one value 0, and `EPSILON` is added before anything is divided by one: both as in TRL.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Comparison = Callable[[np.ndarray, np.ndarray], np.ndarray]
EPSILON = 1e-4


def group_means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The mean of each entry's group (B,)."""
    _, member = np.unique(groups, return_inverse=True)
    return (np.bincount(member, weights=values) / np.bincount(member))[member]


def group_centred(rewards: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Dr. GRPO (arXiv 2503.20783): minus the group's mean; TRL's ``scale_rewards="none"``.

    >>> group_centred(np.array([1.0, 0.0, 0.0, 1.0]), np.array([7, 7, 8, 8])).tolist()
    [0.5, -0.5, -0.5, 0.5]
    """
    return rewards - group_means(rewards, groups)


def group_normalised(rewards: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """GRPO (arXiv 2402.03300, section 4.1.2): minus the group's mean, over its deviation; ``scale_rewards="group"``.

    >>> group_normalised(np.array([1.0, 0.0, 0.0]), np.array([7, 7, 7])).round(2).tolist()
    [1.15, -0.58, -0.58]
    """
    centred = group_centred(rewards, groups)
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    spread = np.sqrt(np.bincount(member, weights=centred**2) / np.maximum(sizes - 1, 1))[member]
    return centred / (spread + EPSILON)


def group_centred_batch_scaled(rewards: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Minus the group's mean, over the deviation of all rewards of the batch; TRL's ``scale_rewards="batch"``.

    The deviation is that of the rewards, between groups too, and not of what is divided by it.

    >>> group_centred_batch_scaled(np.array([1.0, 0.0, 0.0, 0.0]), np.array([7, 7, 8, 8])).round(3).tolist()
    [1.0, -1.0, 0.0, 0.0]
    """
    return group_centred(rewards, groups) / (_deviation(rewards) + EPSILON)


def leave_one_out(rewards: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """RLOO (arXiv 2402.14740): minus the mean of the others in the group.

    >>> leave_one_out(np.array([1.0, 0.0, 0.0]), np.array([7, 7, 7])).tolist()
    [1.0, -0.5, -0.5]
    """
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return group_centred(rewards, groups) * (sizes / np.maximum(sizes - 1, 1))[member]


def batch_normalised(rewards: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """REINFORCE++ (arXiv 2501.03262): minus the batch's mean, over the batch's deviation; groups do not matter.

    Each rollout counts once. The published code lets each of its tokens count, so that long answers weigh more.

    >>> batch_normalised(np.array([1.0, 1.0, 1.0, 0.0]), np.array([7, 7, 8, 8])).round(3).tolist()
    [0.5, 0.5, 0.5, -1.5]
    """
    return (rewards - rewards.mean()) / (_deviation(rewards) + EPSILON) if len(rewards) else rewards


def group_centred_batch_normalised(rewards: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """REINFORCE++-baseline (arXiv 2501.03262): minus the group's mean, then over the batch's deviation of that.

    >>> group_centred_batch_normalised(np.array([1.0, 0.0, 1.0, 1.0]), np.array([7, 7, 8, 8])).round(2).tolist()
    [1.22, -1.22, 0.0, 0.0]
    """
    return batch_normalised(group_centred(rewards, groups), groups)


def uncompared(rewards: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """PPO: rewards as they are, since a value model says what was to be expected."""
    return rewards


COMPARISONS: dict[str, dict[str, Comparison]] = {
    "grpo": {"group": group_normalised, "batch": group_centred_batch_scaled, "none": group_centred},
    "rloo": {"": leave_one_out},
    "reinforce_pp": {"": batch_normalised},
    "reinforce_pp_baseline": {"": group_centred_batch_normalised},
    "ppo": {"": uncompared},
}
"""By algorithm, and by ``scale`` where the algorithm lets one choose."""


def make_comparison(algorithm: str, scale: str = "group") -> Comparison:
    """How an algorithm compares rewards.

    Args:
        algorithm: `grpo`, `rloo`, `reinforce_pp`, `reinforce_pp_baseline` or `ppo`.
        scale: Of `grpo`: `group`, `batch` or `none`, like TRL's ``scale_rewards``; no matter to the others.

    Raises:
        ValueError: There is no such algorithm or scale.
    """
    if algorithm not in COMPARISONS:
        raise ValueError(f"algorithm is {algorithm!r}: allowed is one of {', '.join(COMPARISONS)}")
    by_scale = COMPARISONS[algorithm]
    if algorithm == "grpo" and scale not in by_scale:
        raise ValueError(f"scale is {scale!r}: allowed is one of {', '.join(by_scale)}")
    return by_scale[scale if algorithm == "grpo" else ""]


def _deviation(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
