"""What is known of a batch of rollouts while it is being labelled, steps laid end to end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Evidence:
    """B rollouts with S steps in all; the first rollout's steps, then the second's, and so on.

    Attributes:
        lengths: Steps of each rollout (B,), integers.
        source: The source of each rollout's prompt (B,), text.
        asked: Continuations asked for from the end of each step (S,), finished or not.
        correct: Those that finished and came out right (S,).
        sampled: Those that finished (S,).
        passing_correct: Right ones among the rollouts that pass through the end of each step (S,).
        passing: Rollouts of the group that do: their outcomes are samples that cost nothing (S,). Only the rollout
            itself, unless equal prefixes share; none that was cut off.
        outcome: The rollout's own outcome (B,), 1 right and 0 wrong; NaN if it was cut off.
        group_correct: Right ones among the finished rollouts of the same group (B,), itself included.
        group_sampled: Finished rollouts of the same group (B,), itself included.
        outcome_weight: What an outcome counts beside a continuation; 0 leaves outcomes out.
        step_scores: The MPRM's probability that each step is right (S,), where it is known.
        believed: The a and the b of what was believed, before its group was answered, of the chance that an answer to
            the rollout's prompt is right (B, 2); NaN where nothing was, and None where nothing was of any.
    """

    lengths: np.ndarray
    source: np.ndarray
    asked: np.ndarray
    correct: np.ndarray
    sampled: np.ndarray
    passing_correct: np.ndarray
    passing: np.ndarray
    outcome: np.ndarray
    group_correct: np.ndarray
    group_sampled: np.ndarray
    outcome_weight: float = 0.0
    step_scores: np.ndarray | None = None
    believed: np.ndarray | None = None

    @property
    def rollout(self) -> np.ndarray:
        """The place of the rollout that each step belongs to (S,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def position(self) -> np.ndarray:
        """The place of each step in its rollout (S,), from 0."""
        return np.arange(len(self.asked)) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)

    @property
    def right(self) -> np.ndarray:
        """Right continuations and weighted right outcomes (S,)."""
        return self.correct + self.outcome_weight * self.passing_correct

    @property
    def finished(self) -> np.ndarray:
        """Finished continuations and weighted outcomes (S,)."""
        return self.sampled + self.outcome_weight * self.passing
