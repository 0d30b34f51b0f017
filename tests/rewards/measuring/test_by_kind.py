"""Perception and reasoning reported separately: worked examples."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from rewards.measuring.by_kind import discrimination_by_kind, labels_by_kind, scores_by_kind, step_kinds
from rewards.records import Rollout, StepScores
from tests.fixtures.builders import a_rollout, some_counts


def of_kinds(*kinds: str) -> Rollout:
    rollout = a_rollout([1] * len(kinds))
    steps = [replace(span, kind=kind) for span, kind in zip(rollout.steps, kinds, strict=True)]
    return replace(rollout, steps=tuple(steps))


ROLLOUTS = [of_kinds("perception", "perception", "reasoning"), of_kinds(), of_kinds("", "reasoning")]


def test_kinds_of_all_steps_end_to_end() -> None:
    assert step_kinds(ROLLOUTS).tolist() == ["perception", "perception", "reasoning", "", "reasoning"]
    assert step_kinds([]).tolist() == []


def test_scores_and_labels_worked_by_hand() -> None:
    scores = [StepScores(np.array(values), 0) for values in ([0.2, 0.6, 0.5], [], [0.9, 0.7])]
    assert scores_by_kind(ROLLOUTS, scores) == {"perception": pytest.approx(0.4), "reasoning": pytest.approx(0.6)}
    counts = [some_counts([3, 0, 0], [8, 8, 0]), some_counts([]), some_counts([8, 2])]
    assert labels_by_kind(ROLLOUTS, counts) == {"perception": (2, 0.5), "reasoning": (1, 1.0)}


@pytest.mark.filterwarnings("error")
def test_a_kind_that_does_not_occur_is_absent() -> None:
    plain = [of_kinds("", "")]
    assert scores_by_kind(plain, [StepScores(np.array([0.1, 0.2]), 0)]) == {}
    assert labels_by_kind(plain, [some_counts([1, 2])]) == {}
    assert labels_by_kind(ROLLOUTS[:1], [some_counts([0, 0, 4], [0, 0, 8])]) == {"reasoning": (1, 1.0)}
    assert discrimination_by_kind(["", ""], [0.1, 0.2], [True, False], ["a", "a"]) == {}
    assert scores_by_kind([], []) == labels_by_kind([], []) == discrimination_by_kind([], [], [], []) == {}


def test_discrimination_is_scikit_learns_over_the_steps_of_the_kind() -> None:
    generator = np.random.default_rng(0)
    kinds = generator.choice(["perception", "reasoning", ""], 300).tolist()
    positions = generator.choice(["one", "two"], 300).tolist()
    right = (generator.random(300) < 0.7).tolist()
    scores = np.clip(generator.normal(0.4 + 0.3 * np.array(right), 0.3), 0, 1).tolist()
    found = discrimination_by_kind(kinds, scores, right, positions)
    assert list(found) == ["perception", "reasoning"]
    for kind, measures in found.items():
        members = np.array(kinds) == kind
        truth, score = np.array(right)[members], np.array(scores)[members]
        areas, wrong = [], []
        for position in ("one", "two"):
            here = np.array(positions)[members] == position
            areas.append(roc_auc_score(truth[here], score[here]))
            wrong.append((~truth[here]).sum())
        assert measures["auc_weighted"] == pytest.approx(np.average(areas, weights=wrong))
        assert 0 < measures["auc_standard_error"] < 0.1
        assert measures["auc_within_kind"] == pytest.approx(np.mean(areas))
        assert measures["macro_f1"] == pytest.approx(f1_score(truth, score >= 0.5, average="macro"))
    assert found["perception"] != found["reasoning"]


def test_a_score_at_the_threshold_counts_as_right_and_one_class_has_no_area() -> None:
    found = discrimination_by_kind(["reasoning"] * 2, [0.5, 0.4], [True, False], ["a", "b"])
    assert found["reasoning"]["macro_f1"] == 1.0
    assert isnan(found["reasoning"]["auc_within_kind"])
