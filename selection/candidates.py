"""What a selector sees: a batch of rollouts, their steps laid end to end so that no selector loops over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rewards.records import Annotated, StepScores


@dataclass(frozen=True)
class Candidates:
    """B rollouts with S steps in all.

    Attributes:
        lengths: Steps of each rollout (B,), integers; the arrays below hold the first rollout's steps, then the
            second's, and so on.
        correct: Continuations from the end of each step that came out right (S,). Whole numbers, unless the annotator
            weighted its evidence.
        sampled: Continuations that finished (S,); 0 means that the step's evidence is missing, never that it is wrong.
        step_scores: The MPRM's probability that each step is right (S,), where it is known.
        complexity: The feature entropy of each rollout's images (B,), in [0, 1]; see
            `rewards.process_model.complexity`. Only where the selector needs it.
        generator: For selectors that choose at random.
        chance: Of a right answer to each rollout's prompt, as it was believed before its group was answered (B,), in
            (0, 1); NaN where nothing was, and None where nothing was of any.
    """

    lengths: np.ndarray
    correct: np.ndarray
    sampled: np.ndarray
    step_scores: np.ndarray | None = None
    complexity: np.ndarray | None = None
    generator: np.random.Generator = field(default_factory=np.random.default_rng)
    chance: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def rollout(self) -> np.ndarray:
        """The place of the rollout that each step belongs to (S,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def per_rollout(self, values: np.ndarray) -> np.ndarray:
        """The sum of a value of every step, rollout by rollout: (S,) to (B,), added from first to last step."""
        return np.bincount(self.rollout, weights=values, minlength=len(self))


def gather_candidates(
    batch: Sequence[Annotated],
    scores: Sequence[StepScores] | None = None,
    complexity: np.ndarray | None = None,
    generator: np.random.Generator | None = None,
    chance: np.ndarray | None = None,
) -> Candidates:
    """Lay annotated rollouts, and what else is known of them, end to end.

    Raises:
        ValueError: Evidence that cannot be (not a number, negative, more right than sampled, no step at all, or lists
            of different lengths), naming the first such rollout by its prompt and its group.
    """
    lengths = np.array([len(entry.counts.sampled) for entry in batch], dtype=np.int64)
    correct = _end_to_end([entry.counts.correct for entry in batch])
    sampled = _end_to_end([entry.counts.sampled for entry in batch])
    step_scores = None if scores is None else _end_to_end([entry.scores for entry in scores])
    right_lengths = [len(entry.counts.correct) for entry in batch]
    score_lengths = lengths if scores is None else [len(entry.scores) for entry in scores]
    _refuse(lengths != right_lengths, batch, "as many right as sampled counts are needed, one of each a step")
    _refuse(lengths != score_lengths, batch, "one MPRM score a step is needed")
    _refuse(lengths == 0, batch, "it has no step")
    generator = generator or np.random.default_rng()
    candidates = Candidates(lengths, correct, sampled, step_scores, complexity, generator, chance)
    rollout = candidates.rollout
    for wrong, reason in (
        (~np.isfinite(correct) | ~np.isfinite(sampled), "a count is not a number"),
        ((correct < 0) | (sampled < 0), "a count is negative"),
        (correct > sampled, "more right than sampled continuations"),
    ):
        _refuse(np.bincount(rollout, weights=wrong, minlength=len(batch)) > 0, batch, reason)
    if step_scores is not None:
        outside = ~((step_scores >= 0) & (step_scores <= 1))
        _refuse(
            np.bincount(rollout, weights=outside, minlength=len(batch)) > 0, batch, "an MPRM score is not in [0, 1]"
        )
    if complexity is not None:
        _refuse(~((complexity >= 0) & (complexity <= 1)), batch, "its images' entropy is not in [0, 1]")
    if chance is not None:
        possible = np.isnan(chance) | ((chance > 0) & (chance < 1))
        _refuse(~possible, batch, "its prompt's chance of a right answer is not in (0, 1)")
    return candidates


def _end_to_end(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(rows).astype(float, copy=False) if len(rows) else np.zeros(0)


def _refuse(wrong: np.ndarray, batch: Sequence[Annotated], reason: str) -> None:
    if not np.any(wrong):
        return
    place = int(np.argmax(wrong))
    entry = batch[place]
    counts = f"right {np.asarray(entry.counts.correct).tolist()} of {np.asarray(entry.counts.sampled).tolist()}"
    raise ValueError(
        f"rollout {place} of the batch (prompt {entry.rollout.prompt_id!r}, group {entry.rollout.group}): {reason}; "
        f"its counts: {counts}"
    )
