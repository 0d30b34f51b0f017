"""What a whole answer is worth in training: the rule's word, the outcome model's, or both (BaseReward, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from rewards.records import Rollout

OutcomeReward = Literal["rule", "model", "hybrid"]


def outcome_rewards(rollouts: Sequence[Rollout], kind: OutcomeReward, scores: np.ndarray | None = None) -> np.ndarray:
    """One reward a rollout (B,), in [0, 1].

    Args:
        rollouts: Verified rollouts.
        kind: `rule`: the verifier's verdict. `model`: the outcome model's score. `hybrid`: 1 where the verifier says
            right, else the outcome model's score.
        scores: The outcome model's scores of the rollouts (B,), in [0, 1]; `rule` needs none.

    Raises:
        ValueError: There are no scores, or not one for each rollout.
    """
    verdicts = np.array([rollout.outcome for rollout in rollouts], dtype=float)
    if kind == "rule":
        return verdicts
    if scores is None or np.shape(scores) != verdicts.shape:
        raise ValueError(f"outcome reward {kind!r} needs one score for each of {len(verdicts)} rollouts")
    return np.where(verdicts > 0.5, 1.0, scores) if kind == "hybrid" else np.asarray(scores, dtype=float)
