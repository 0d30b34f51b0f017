"""What a replay measures: how well step scores tell right steps from wrong ones, and how clean the kept labels are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rewards.measuring.by_kind import KINDS, step_kinds
from rewards.measuring.discrimination import step_discrimination
from rewards.measuring.process_metrics import LabelledSteps, brier, calibration_error, step_f1
from rewards.process_model.labels import hard
from rewards.records import Annotated, StepScores
from rewards.seeds import derive_seed
from rl.instruments.replay.stream import RecordedRollout
from selection.rows import identity

EVEN = np.array([0.5])
"""The threshold from which on a step is called right, where none is tuned."""


def step_measures(rollouts: Sequence[RecordedRollout], scores: Sequence[StepScores]) -> dict[str, float]:
    """How well scores tell the steps that are right, after only right ones, from the others.

    Returns:
        ``auc_weighted`` (the area under the ROC curve within a source and position, averaged by their wrong steps) with
        ``auc_standard_error``, ``auc_within_kind`` (the same, all alike), ``auc_plain`` (over all steps at once),
        ``macro_f1`` (at 0.5), ``macro_f1_tuned`` (see `tuned_macro_f1`), ``brier`` and ``calibration_error``;
        all but the last two also over the steps of each of `rewards.measuring.by_kind.KINDS`, for example as
        ``auc_within_kind_perception``. What cannot be said, because only one class occurs, is NaN.
    """
    score = np.concatenate([entry.scores for entry in scores])
    right = np.concatenate([rollout.truth for rollout in rollouts])
    position = np.array([kind for rollout in rollouts for kind in rollout.truth_kinds])
    kind = step_kinds([rollout.entry.rollout for rollout in rollouts])
    # By prompt, since answers to one share their steps.
    prompt = np.array([rollout.entry.prompt.id for rollout in rollouts for _ in rollout.truth])
    tuning = np.array([derive_seed("tune", name) % 2 == 0 for name in prompt], dtype=bool)
    steps = LabelledSteps(score, right)
    found = {"brier": brier(steps), "calibration_error": calibration_error(steps)}
    for name, here in _all_and_each(kind).items():
        if here.any():
            area = step_discrimination(score[here], right[here], position[here], prompt[here])
            part = LabelledSteps(score[here], right[here])
            found |= {
                f"auc_weighted{name}": area.weighted,
                f"auc_standard_error{name}": area.standard_error,
                f"auc_within_kind{name}": area.within_kind,
                f"auc_plain{name}": area.plain,
                f"macro_f1{name}": float(step_f1(part, EVEN).macro[0]),
                f"macro_f1_tuned{name}": tuned_macro_f1(part, tuning[here]),
            }
    return found


def tuned_macro_f1(steps: LabelledSteps, first_half: np.ndarray) -> float:
    """Macro-F1 where each half of the steps is called right or wrong at the threshold that is best on the other half;
    NaN if a half is empty. ``first_half`` (N,) says which steps are in the first one."""
    if first_half.all() or not first_half.any():
        return float("nan")
    called = np.zeros(len(steps.scores))
    for half in (first_half, ~first_half):
        thresholds = np.unique(steps.scores[~half])
        f1 = step_f1(LabelledSteps(steps.scores[~half], steps.right[~half]), thresholds).macro
        called[half] = steps.scores[half] >= thresholds[f1.argmax()]
    return float(step_f1(LabelledSteps(called, steps.right), EVEN).macro[0])


def label_noise(entries: Sequence[Annotated], truths: Mapping[object, np.ndarray]) -> dict[str, float]:
    """How often the hard Monte-Carlo label of a step is not the truth (right, after only right steps).

    Args:
        entries: Labelled rollouts.
        truths: The truth of each one's steps, by `selection.rows.identity`; empty where nobody knows it.

    Returns:
        ``label_noise`` over all labelled steps, and ``label_noise_KIND``, each where there are such steps.
    """
    known = [entry for entry in entries if len(truths[identity(entry)])]
    nothing = np.zeros(0)
    label = np.concatenate([nothing, *(hard(entry.counts) for entry in known)])
    right = np.concatenate([nothing, *(truths[identity(entry)] for entry in known)])
    kind = step_kinds([entry.rollout for entry in known])
    found = {}
    for name, members in _all_and_each(kind).items():
        here = members & ~np.isnan(label)
        if here.any():
            found[f"label_noise{name}"] = float((label[here] != right[here]).mean())
    return found


def area_under_curve(steps: Sequence[float], values: Sequence[float]) -> float:
    """The mean height of a curve through these points, by the trapezoidal rule; that of the point if there is one.

    >>> area_under_curve([0, 1, 3], [0.5, 0.7, 0.7])
    0.6666666666666666
    """
    if len(steps) == 1:
        return float(values[0])
    return float(np.trapezoid(values, steps) / (steps[-1] - steps[0]))


def _all_and_each(kind: np.ndarray) -> dict[str, np.ndarray]:
    """Which steps a measure is over (N,), by the end of its name: all of them, and those of each kind."""
    return {"": np.ones(len(kind), dtype=bool)} | {f"_{name}": kind == name for name in KINDS}


@dataclass(frozen=True)
class CellResult:
    """The numbers of one finished cell.

    Attributes:
        curve: One row a measurement, in order, each with its policy ``step`` and whatever was measured then; a number
            that was not measured is left out of its row.
        final: The numbers that the cell has once, by name, for example ``auc_within_kind``.
    """

    curve: list[dict[str, float]]
    final: dict[str, float]
