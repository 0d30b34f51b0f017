"""Steps of perception and steps of reasoning, reported separately (VL-PRM, arXiv 2509.23250)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.measuring.discrimination import step_discrimination
from rewards.measuring.process_metrics import LabelledSteps, step_f1
from rewards.process_model.labels import hard
from rewards.records import Rollout, StepCounts, StepScores

KINDS = ("perception", "reasoning")


def step_kinds(rollouts: Sequence[Rollout]) -> np.ndarray:
    """The kind of each step of each rollout, end to end (S,), text."""
    return np.array([span.kind for rollout in rollouts for span in rollout.steps], dtype=str)


def scores_by_kind(rollouts: Sequence[Rollout], scores: Sequence[StepScores]) -> dict[str, float]:
    """Mean score of the steps of each of `KINDS` that occurs."""
    kinds, values = step_kinds(rollouts), _end_to_end([entry.scores for entry in scores])
    return {name: float(members.mean()) for name, members in _split(kinds, values).items()}


def labels_by_kind(rollouts: Sequence[Rollout], counts: Sequence[StepCounts]) -> dict[str, tuple[int, float]]:
    """Labelled steps of each of `KINDS` that has one, and the share of them that is positive."""
    kinds, labels = step_kinds(rollouts), _end_to_end([hard(entry) for entry in counts])
    labelled = ~np.isnan(labels)
    split = _split(kinds[labelled], labels[labelled])
    return {name: (len(members), float(members.mean())) for name, members in split.items()}


def discrimination_by_kind(
    kinds: Sequence[str],
    scores: Sequence[float],
    right: Sequence[bool],
    positions: Sequence[str],
    groups: Sequence[int] | None = None,
    threshold: float = 0.5,
) -> dict[str, dict[str, float]]:
    """How well scores tell right steps from wrong ones, over the steps of each of `KINDS` that occurs.

    Args:
        kinds: The kind of each step (S,).
        scores: What a reward model says of it (S,).
        right: Whether it is right (S,).
        positions: What fixes the step's place in its solution (S,); in `rewards.measuring.discrimination`, its kind.
        groups: What was drawn together (S,); see `rewards.measuring.discrimination`.
        threshold: The score from which on a step counts as right.

    Returns:
        For each kind ``auc_weighted``, the area under the ROC curve within a position, averaged over positions by their
        wrong steps (NaN if none has both right and wrong steps), its ``auc_standard_error``, ``auc_within_kind``, the
        same with positions alike, and ``macro_f1``, the mean of the F1 of right and of wrong steps.
    """
    found = {}
    for name in KINDS:
        members = [place for place, kind in enumerate(kinds) if kind == name]
        if not members:
            continue
        score, truth = [scores[i] for i in members], [right[i] for i in members]
        f1 = step_f1(LabelledSteps(np.array(score), np.array(truth, dtype=bool)), np.array([threshold]))
        together = None if groups is None else [groups[i] for i in members]
        area = step_discrimination(score, truth, [positions[i] for i in members], together)
        found[name] = {
            "auc_weighted": area.weighted,
            "auc_standard_error": area.standard_error,
            "auc_within_kind": area.within_kind,
            "macro_f1": float(f1.macro[0]),
        }
    return found


def _split(kinds: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """The values of each of `KINDS` that occurs."""
    return {name: values[kinds == name] for name in KINDS if (kinds == name).any()}


def _end_to_end(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts])
