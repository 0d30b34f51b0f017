"""Metrics of step scores: scikit-learn's numbers, the published evaluation's counting, and an example by hand."""

from __future__ import annotations

from itertools import pairwise
from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from rewards.measuring.process_metrics import (
    BINS,
    LabelledSteps,
    brier,
    calibration,
    calibration_error,
    first_errors,
    labelled_steps,
    mean_first_error_f1,
    micro_over_sources,
    step_f1,
    step_indices,
)
from rewards.measuring.process_report import FirstErrorReport, LabelledStepsReport, Threshold, make_report
from rewards.measuring.process_scores import ScoredSolution

# Few values, so that ties, bin edges and scores at the threshold are common.
SCORES = st.sampled_from([0.0, 0.1, 0.3, 0.49999999999999994, 0.5, 0.6, 0.7, 0.9999999999999999, 1.0]) | st.floats(0, 1)
STEPS = st.lists(st.tuples(SCORES, st.sampled_from([1, 0, -1])), min_size=1, max_size=8)
Drawn = list[tuple[str, list[tuple[float, int]]]]
SOLUTIONS = st.lists(st.tuples(st.sampled_from("abc"), STEPS), min_size=1, max_size=12)


def scored(source: str, steps: list[tuple[float, int]], kinds: str = "") -> ScoredSolution:
    scores, labels = zip(*steps, strict=True)
    return ScoredSolution(source, "", np.array(labels), np.array(scores), tuple(kinds or [""] * len(steps)))


def all_of(drawn: Drawn) -> list[ScoredSolution]:
    return [scored(source, steps) for source, steps in drawn]


def published_f1(labels: list[int], called: list[int], of: int) -> float:
    """Counted as in the published evaluation."""
    true = sum(label == of and call == of for label, call in zip(labels, called, strict=True))
    false = sum(label != of and call == of for label, call in zip(labels, called, strict=True))
    missed = sum(label == of and call != of for label, call in zip(labels, called, strict=True))
    return 2 * true / (2 * true + false + missed) if 2 * true + false + missed else 0.0


@settings(max_examples=50)
@given(SOLUTIONS, SCORES)
def test_the_report_is_what_scikit_learn_says(drawn: Drawn, at: float) -> None:
    flat = [(source, score, label) for source, steps in drawn for score, label in steps if label]
    if not flat:
        with pytest.raises(ValueError, match="no step is labelled"):
            make_report("visualprocessbench", all_of(drawn), Threshold(at))
        return
    report = make_report("visualprocessbench", all_of(drawn), Threshold(at))
    assert isinstance(report, LabelledStepsReport)
    truth, scores = [label == 1 for _, _, label in flat], [score for _, score, _ in flat]

    def macro(members: list[tuple[str, float, int]]) -> tuple[float, float, float]:
        called, labels = [score >= at for _, score, _ in members], [label == 1 for _, _, label in members]
        both = [f1_score(labels, called, pos_label=side, zero_division=0) for side in (True, False)]
        return sum(both) / 2, *both

    pooled = report.pooled
    assert (pooled.macro_f1, pooled.f1_positive, pooled.f1_negative) == macro(flat)
    by_source = {source: [step for step in flat if step[0] == source] for source, _, _ in flat}
    assert list(report.per_source) == sorted(by_source)
    for source, members in by_source.items():
        found = report.per_source[source]
        assert (found.macro_f1, found.f1_positive, found.f1_negative) == macro(members)
        assert found.steps == len(members)
    weighted = sum(macro(members)[0] * len(members) for members in by_source.values()) / len(flat)
    assert report.micro_over_sources == pytest.approx(weighted, abs=1e-12)
    assert pooled.steps == len(flat)
    assert report.quality.brier == pytest.approx(brier_score_loss(truth, scores), abs=1e-12)
    if len(set(truth)) == 2:
        assert report.quality.auc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    else:
        assert report.quality.auc is report.quality.auc_index_only is None


@settings(max_examples=100)
@given(SOLUTIONS, st.lists(SCORES, min_size=1, max_size=5))
def test_f1_is_counted_as_published_at_every_threshold(drawn: Drawn, thresholds: list[float]) -> None:
    labels = [label for _, steps in drawn for _, label in steps if label]
    found = step_f1(labelled_steps(all_of(drawn)), np.array(thresholds))
    for place, threshold in enumerate(thresholds):
        called = [1 if score >= threshold else -1 for _, steps in drawn for score, label in steps if label]
        assert found.positive[place] == published_f1(labels, called, 1)
        assert found.negative[place] == published_f1(labels, called, -1)


@settings(max_examples=100)
@given(SOLUTIONS)
def test_the_calibration_error_is_that_of_bins_counted_one_by_one(
    drawn: Drawn,
) -> None:
    steps = labelled_steps(all_of(drawn))
    if not len(steps.scores):
        return
    edges = [bin / BINS for bin in range(BINS)] + [np.inf]
    error = 0.0
    for place, (low, high) in enumerate(pairwise(edges)):
        members = (steps.scores >= low) & (steps.scores < high)
        assert calibration(steps).steps[place] == members.sum()
        if members.any():
            error += abs(steps.scores[members].mean() - steps.right[members].mean()) * members.sum()
    assert calibration_error(steps) == pytest.approx(error / len(steps.scores), abs=1e-9)


def named_first_error(scores: np.ndarray, threshold: float) -> int:
    """ProcessBench's own way: walk until a step looks wrong."""
    return next((place for place, score in enumerate(scores) if score < threshold), -1)


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(SCORES, min_size=1, max_size=6), st.integers(-1, 5)), min_size=1
    ),
    st.lists(SCORES, min_size=1, max_size=4),
)
def test_first_errors_are_found_as_by_walking_through_each_solution(
    drawn: list[tuple[str, list[float], int]], thresholds: list[float]
) -> None:
    solutions, truths = [], []
    for source, scores, error in drawn:
        first = error if error < len(scores) else -1
        labels = [1] * len(scores) if first < 0 else [1] * first + [-1] + [0] * (len(scores) - first - 1)
        solutions.append(scored(source, list(zip(scores, labels, strict=True))))
        truths.append(first)
    found, headline = (
        first_errors(solutions, np.array(thresholds)),
        mean_first_error_f1(solutions, np.array(thresholds)),
    )
    for place, threshold in enumerate(thresholds):
        hits = [
            named_first_error(solution.scores, threshold) == truth
            for solution, truth in zip(solutions, truths, strict=True)
        ]

        def accuracies(source: str = "ab", hits: list[bool] = hits) -> list[float]:
            kept = [(hit, truth) for hit, truth, s in zip(hits, truths, solutions, strict=True) if s.source in source]
            sides = [[hit for hit, truth in kept if (truth >= 0) == error] for error in (True, False)]
            return [float(np.mean(side)) if side else float("nan") for side in sides]

        with_error, without_error = accuracies()
        assert found.with_error[place] == pytest.approx(with_error, nan_ok=True)
        assert found.without_error[place] == pytest.approx(without_error, nan_ok=True)
        means = []
        for source in {solution.source for solution in solutions}:
            a, b = accuracies(source)
            if not isnan(a + b):
                means.append(2 * a * b / (a + b) if a + b else 0.0)
        assert headline[place] == pytest.approx(np.mean(means) if means else float("nan"), nan_ok=True)


BY_HAND = [
    scored("a", [(0.9, 1), (0.4, 1), (0.5, -1), (0.1, 0)]),
    scored("b", [(0.5, 1), (0.2, -1)]),
]


def test_an_example_by_hand() -> None:
    """A score at the threshold counts as right. In a one right step of two is found, and no wrong one; in b all."""
    report = make_report("visualprocessbench", BY_HAND, Threshold())
    assert report.to_json() == {
        "per_source": {
            "a": {"macro_f1": 0.25, "f1_positive": 0.5, "f1_negative": 0.0, "steps": 3},
            "b": {"macro_f1": 1.0, "f1_positive": 1.0, "f1_negative": 1.0, "steps": 2},
        },
        "overall": {
            "micro_over_sources": pytest.approx((0.25 * 3 + 1 * 2) / 5),
            "macro_f1_pooled": pytest.approx((4 / 6 + 2 / 4) / 2),
            "f1_positive": pytest.approx(4 / 6),
            "f1_negative": 0.5,
            "total_steps": 5,
            # Six pairs of a right and a wrong step: four are won, one is even.
            "auc": 4.5 / 6,
            # First steps 2 of 2 right, second ones 1 of 2, the third wrong: 1, 1/2, 0.
            "auc_index_only": 5.5 / 6,
            # Only second steps are of both classes.
            "auc_within_index": 1.0,
            "auc_weighted": 1.0,
            "auc_standard_error": None,  # of one problem alone
            "brier": pytest.approx((0.01 + 0.36 + 0.25 + 0.25 + 0.04) / 5),
            "calibration_error": pytest.approx((0.1 + 0.6 + 2 * 0 + 0.2) / 5),
            "threshold": 0.5,
            "threshold_from": "default",
        },
    }
    assert step_indices(BY_HAND).tolist() == [0, 1, 2, 0, 1]
    assert brier(LabelledSteps(np.array([0.5]), np.array([True]))) == 0.25
    assert micro_over_sources(BY_HAND, np.array([0.0, 0.5])).tolist() == pytest.approx(
        [(0.8 / 2 * 3 + 2 / 3 / 2 * 2) / 5, 0.55]
    )


def test_a_first_error_example_by_hand() -> None:
    solutions = [
        scored("gsm8k", [(0.9, 1), (0.3, -1), (0.2, 0)]),  # named
        scored("gsm8k", [(0.4, 1), (0.3, -1)]),  # another step is named before it
        scored("gsm8k", [(0.5, 1), (0.9, 1)]),  # none named, rightly
        scored("math", [(0.9, 1), (0.1, 1)]),  # one named, wrongly
        scored("math", [(0.9, -1)]),  # missed
        scored("rest", [(0.9, 1)]),  # no solution with an error: no F1
    ]
    report = make_report("processbench", solutions, Threshold())
    assert isinstance(report, FirstErrorReport)
    content = report.to_json()
    keys = ("f1", "accuracy_with_error", "accuracy_without_error", "with_error", "without_error")
    assert {name: tuple(subset[key] for key in keys) for name, subset in content["per_source"].items()} == {
        "gsm8k": (pytest.approx(2 / 3), 0.5, 1.0, 2, 1),
        "math": (0.0, 0.0, 0.0, 1, 1),
        "rest": (None, None, 1.0, 0, 1),
    }
    assert content["overall"]["first_error_f1"] == pytest.approx(1 / 3)
    assert (content["overall"]["total_solutions"], content["overall"]["total_steps"]) == (6, 10)
    assert report.metrics()["mprm/bench_first_error_f1"] == pytest.approx(1 / 3)
    assert report.metrics()["mprm/bench_first_error_f1/gsm8k"] == pytest.approx(2 / 3)
    assert "mprm/bench_first_error_f1/rest" not in report.metrics()


def test_steps_of_each_kind_are_reported_apart() -> None:
    kinds = ("perception", "perception", "reasoning", "")
    labels, scores = np.array([1, -1, -1, 1]), np.array([0.9, 0.1, 0.8, 0.7])
    report = make_report("visualprocessbench", [ScoredSolution("a", "", labels, scores, kinds)], Threshold())
    content = {
        kind: (found["macro_f1"], found["auc"], found["steps"]) for kind, found in report.to_json()["per_kind"].items()
    }
    assert content == {"perception": (1.0, 1.0, 2), "reasoning": (0.0, None, 1)}
    assert report.metrics()["mprm/bench_macro_f1/perception"] == 1.0
    assert "per_kind" not in make_report("visualprocessbench", BY_HAND, Threshold()).to_json()
