"""The predicted BIS against enumeration: every place of the first error, every outcome of every further sample."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rewards.annotation.evidence import Evidence
from rewards.annotation.predicted_bis import (
    CONCENTRATION,
    DOUBT,
    REPAIR,
    predicted_balanced_information,
)
from rewards.records import Rollout
from selection.bis import balanced_information, step_statistics
from selection.candidates import Candidates
from tests.fixtures.builders import a_rollout

ALPHA = 0.05


def evidence_of(
    correct: Sequence[Sequence[float]],
    sampled: Sequence[Sequence[float]],
    outcome: Sequence[float] | None = None,
    scores: Sequence[Sequence[float]] | None = None,
    group: tuple[float, float] = (4, 8),
) -> Evidence:
    """Rollouts with these counts, each in a group of its own, with ``group`` right answers of all beside it."""
    lengths = [len(row) for row in correct]
    outcomes = np.ones(len(lengths)) if outcome is None else np.array(outcome, dtype=float)
    finished = ~np.isnan(outcomes)
    own = np.where(finished, outcomes, 0)
    return Evidence(
        lengths=np.array(lengths, dtype=np.int64),
        source=np.array(["total"] * len(lengths), dtype=object),
        asked=np.array([n for row in sampled for n in row], dtype=np.int64),
        correct=np.array([k for row in correct for k in row], dtype=float),
        sampled=np.array([n for row in sampled for n in row], dtype=float),
        passing_correct=np.repeat(own, lengths),
        passing=np.repeat(finished.astype(float), lengths),
        outcome=outcomes,
        group_correct=group[0] + own,
        group_sampled=group[1] + finished,
        step_scores=None if scores is None else np.array([s for row in scores for s in row]),
    )


def published(counts: Sequence[tuple[float, float]], alpha: float) -> float:
    """BIS of one rollout, from its definition."""
    scores = [k / n for k, n in counts]
    positive = [s for s in scores if s > 0]
    p = len(positive) / len(scores)
    return (p * (1 - p) + alpha) * (sum(positive) / len(positive) if positive else 1)


def chain(slip: float, to_come: int, on_track: bool) -> float:
    """The chance of being on track after so many more steps, step by step."""
    on = float(on_track)
    for _ in range(to_come):
        on = on * (1 - slip) + (1 - on) * REPAIR
    return min(max(on, DOUBT), 1 - DOUBT)


def expected_by_enumeration(
    correct: Sequence[int],
    sampled: Sequence[int],
    free: Sequence[tuple[int, int]],
    others: tuple[float, float],
    most: int,
    scores: Sequence[float] | None = None,
    believed: tuple[float, float] = (1, 1),
) -> float:
    """The same expectation, slowly: sums over hypotheses and over all that the missing samples could show.

    Args:
        correct, sampled: Continuations of each step.
        free: Right and all outcomes that part at each step.
        others: Right ones among the others of the group, and all of them.
        most: N.
        scores: The MPRM's.
        believed: Of the prompt.
    """
    steps = len(correct)
    success = (others[0] + believed[0]) / (others[1] + sum(believed))
    slip = 1 - success ** (1 / steps)
    weights, values = [], []
    for c in range(steps + 1):
        if scores is None:
            weight = (1 - slip) ** c * (slip if c < steps else 1)
        else:
            so_far = [1.0, *(min(scores[: j + 1]) for j in range(steps)), 0.0]
            weight = (1 - DOUBT) * (so_far[c] - so_far[c + 1]) + DOUBT / (steps + 1)
        outcomes: list[list[tuple[float, float]]] = []
        for j in range(steps):
            rate = chain(slip, steps - 1 - j, j < c)
            a, b = CONCENTRATION * rate, CONCENTRATION * (1 - rate)
            k, n = correct[j] + free[j][0], sampled[j] + free[j][1]
            # One order of the samples instead of all of them: the same factor for every hypothesis.
            weight *= stats.betabinom(n, a, b).pmf(k)
            left = most - sampled[j]
            law = stats.betabinom(left, a + k, b + n - k)
            outcomes.append([((correct[j] + more) / most, float(law.pmf(more))) for more in range(left + 1)])
        weights.append(weight)
        values.append(
            sum(
                published([(score, 1) for score, _ in row], ALPHA) * prod(chance for _, chance in row)
                for row in itertools.product(*outcomes)
            )
        )
    return float(np.dot(weights, values) / np.sum(weights))


CASES: list[dict[str, Any]] = [
    {"correct": [0], "sampled": [0], "most": 3, "outcome": 0.0},
    {"correct": [0, 0, 0], "sampled": [0, 0, 0], "most": 3, "outcome": 0.0},
    {"correct": [1, 1, 0], "sampled": [1, 1, 1], "most": 4, "outcome": 0.0},
    {"correct": [1, 0, 1, 0], "sampled": [2, 1, 1, 2], "most": 3, "outcome": 1.0},
    {"correct": [2, 0], "sampled": [2, 2], "most": 6, "outcome": float("nan")},
    {"correct": [0, 0, 0], "sampled": [0, 0, 0], "most": 3, "outcome": 0.0, "scores": [0.9, 0.3, 0.6]},
    {"correct": [0, 1, 0], "sampled": [1, 1, 0], "most": 3, "outcome": 1.0, "scores": [1.0, 1.0, 0.0]},
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("group", [(0, 0), (0, 7), (7, 7), (3, 7)])
def test_it_is_the_expectation_that_enumeration_finds(case: dict[str, Any], group: tuple[int, int]) -> None:
    scores = None if "scores" not in case else [case["scores"]]
    evidence = evidence_of([case["correct"]], [case["sampled"]], [case["outcome"]], scores, group)
    free = [(0, 0)] * len(case["correct"])
    if not np.isnan(case["outcome"]):
        free[-1] = (int(case["outcome"]), 1)
    slow = expected_by_enumeration(case["correct"], case["sampled"], free, group, case["most"], case.get("scores"))
    assert predicted_balanced_information(evidence, case["most"], ALPHA) == pytest.approx([slow], rel=1e-9)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("group", [(0, 0), (3, 7)])
def test_what_is_believed_of_a_prompt_joins_the_verdicts_of_its_group(
    case: dict[str, Any], group: tuple[int, int]
) -> None:
    """One rollout twice: of a prompt that is known, and of one that is not."""
    scores = None if "scores" not in case else [case["scores"]] * 2
    twice = [case["correct"]] * 2, [case["sampled"]] * 2, [case["outcome"]] * 2
    evidence = replace(evidence_of(*twice, scores, group), believed=np.array([[2.5, 11.0], [np.nan, np.nan]]))
    free = [(0, 0)] * len(case["correct"])
    if not np.isnan(case["outcome"]):
        free[-1] = (int(case["outcome"]), 1)
    counts = case["correct"], case["sampled"], free, group, case["most"], case.get("scores")
    known, unknown = predicted_balanced_information(evidence, case["most"], ALPHA)
    assert known == pytest.approx(expected_by_enumeration(*counts, believed=(2.5, 11.0)), rel=1e-9)
    assert unknown == predicted_balanced_information(replace(evidence, believed=None), case["most"], ALPHA)[1]


def test_a_prompt_that_is_right_half_of_the_time_slips_at_two_steps_as_often_as_they_say() -> None:
    """1 - 0.5^(1/2) each, if nobody else of its group is there: the place of the first error, by hand."""
    evidence = replace(evidence_of([[0, 0]], [[0, 0]], [np.nan], group=(0, 0)), believed=np.array([[40.0, 40.0]]))
    slip = 1 - 0.5**0.5
    on, off = [(chain(slip, left, True), chain(slip, left, False)) for left in (1, 0)]
    expected = 0.0
    for chance, (first, second) in zip((slip, (1 - slip) * slip, 0.5), ((0, 0), (1, 0), (1, 1)), strict=True):
        rates = on[1 - first], off[1 - second]
        both, one = rates[0] * rates[1], rates[0] * (1 - rates[1]) + rates[1] * (1 - rates[0])
        expected += chance * (both * ALPHA + one * (0.25 + ALPHA) + (1 - both - one) * ALPHA)
    assert predicted_balanced_information(evidence, 1, ALPHA) == pytest.approx([expected], rel=1e-9)


def test_outcomes_of_the_group_count_where_they_part() -> None:
    """Two rollouts share two steps with the first one, one shares one, and two share none."""
    rows = [((4, 5, 6), 0.0), ((4, 5, 7), 1.0), ((4, 5), 0.0), ((4, 6), 1.0), ((5,), 1.0), ((7, 7), 0.0)]
    rollouts: list[Rollout] = [a_rollout([1] * len(t), tokens=(*t, 1), outcome=outcome) for t, outcome in rows]
    first = rollouts[0]
    passing = [
        [r.outcome for r in rollouts if len(r.steps) > j and r.token_ids[: j + 1] == first.token_ids[: j + 1]]
        for j in range(3)
    ]
    evidence = evidence_of([[0, 1, 0]], [[1, 1, 1]], [0.0], group=(3, 5))
    evidence = Evidence(
        **vars(evidence)
        | {
            "passing": np.array([len(row) for row in passing], dtype=float),
            "passing_correct": np.array([sum(row) for row in passing]),
        }
    )
    slow = expected_by_enumeration([0, 1, 0], [1, 1, 1], [(1, 1), (1, 2), (0, 1)], (3, 5), 3)
    assert predicted_balanced_information(evidence, 3, ALPHA) == pytest.approx([slow], rel=1e-9)


counts_of_a_rollout = st.lists(st.integers(0, 6), max_size=7)


@settings(max_examples=100)
@given(st.lists(counts_of_a_rollout, max_size=6), st.sampled_from([0.0, 0.05, 0.2]), st.booleans())
def test_with_all_samples_at_hand_it_is_the_published_score(
    correct: list[list[int]], alpha: float, known_scores: bool
) -> None:
    sampled = [[6] * len(row) for row in correct]
    scores = [[0.5] * len(row) for row in correct] if known_scores else None
    evidence = evidence_of(correct, sampled, [0.0] * len(correct), scores)
    candidates = Candidates(evidence.lengths, evidence.correct, evidence.sampled)
    exact = balanced_information(step_statistics(candidates), alpha)
    assert predicted_balanced_information(evidence, 6, alpha) == pytest.approx(exact, nan_ok=True)


def test_it_comes_nearer_to_the_score_as_the_probe_grows() -> None:
    """Rollouts that the model does not describe (any rate at any step): N = 64, probes of 0 to 64 of them."""
    generator = np.random.default_rng(0)
    drawn = generator.random((300, 5, 64)) < (generator.random((300, 5)) ** 3)[:, :, None]
    lengths = np.full(300, 5)
    truth = balanced_information(
        step_statistics(Candidates(lengths, drawn.sum(2).ravel().astype(float), np.full(1500, 64.0))), ALPHA
    )
    errors = []
    for probe in (0, 4, 16, 48, 64):
        correct = drawn[:, :, :probe].sum(2)
        evidence = evidence_of(correct.tolist(), np.full((300, 5), probe).tolist(), [0.0] * 300)
        errors.append(float(np.abs(predicted_balanced_information(evidence, 64, ALPHA) - truth).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.03
    assert errors[-1] < 1e-12


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 2), max_size=7), min_size=1, max_size=6), st.booleans())
def test_a_rollouts_prediction_is_its_own(correct: list[list[int]], known_scores: bool) -> None:
    """Whatever else is in the batch, rollouts without steps too; and it is a score."""
    outcomes = [float(i % 2) for i in range(len(correct))]
    scores = [[0.9 / (j + 1) for j in range(len(row))] for row in correct] if known_scores else None
    together = predicted_balanced_information(
        evidence_of(correct, [[2] * len(row) for row in correct], outcomes, scores), 16, ALPHA
    )
    for i, row in enumerate(correct):
        own_scores = None if scores is None else [scores[i]]
        alone = predicted_balanced_information(
            evidence_of([row], [[2] * len(row)], [outcomes[i]], own_scores), 16, ALPHA
        )
        assert together[i] == pytest.approx(alone[0], nan_ok=True)
        assert np.isnan(together[i]) if not row else 0 <= together[i] <= 0.25 + ALPHA


def test_nothing_to_predict_is_no_error() -> None:
    assert predicted_balanced_information(evidence_of([], []), 16, ALPHA).tolist() == []


def test_what_it_ranks_first() -> None:
    """A wrong answer of a prompt that is mostly solved, before a right one, and before a hopeless prompt's."""
    nothing = [[0] * 5]

    def score(outcome: float, right: int) -> float:
        return float(
            predicted_balanced_information(evidence_of(nothing, nothing, [outcome], None, (right, 7)), 16, 0.05)[0]
        )

    assert score(0.0, 6) > score(1.0, 6)
    assert score(0.0, 6) > score(0.0, 0)


def test_mprm_scores_say_where_the_first_error_is() -> None:
    """A sharp fall after two of four steps, and no sample: nearly the score of two positive and two negative steps."""
    nothing = [[0] * 4] * 2
    evidence = evidence_of(nothing, nothing, [0.0, 0.0], [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]], (7, 7))
    halved, unspoilt = predicted_balanced_information(evidence, 16, ALPHA)
    assert halved > 0.6 * (0.25 + ALPHA)
    assert unspoilt < 0.4 * (0.25 + ALPHA)
