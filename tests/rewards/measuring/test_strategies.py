"""Strategies against enumeration, slow plain versions, and answers worked out by hand."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.measuring.strategies import (
    AGGREGATIONS,
    OF_THEIR_OWN,
    STRATEGIES,
    WITHOUT_JUDGE,
    Strategy,
    accuracy_at,
    aggregate,
    choose,
    pass_rate,
    rule_of,
    vote,
)

CHOOSING = [name for name in STRATEGIES if name not in OF_THEIR_OWN | {"pass"}]
JUDGED = [name for name in CHOOSING if name not in WITHOUT_JUDGE]

pools = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["a", "b", "c", None]), st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    min_size=1,
    max_size=9,
)


@pytest.mark.parametrize("size", range(1, 8))
def test_pass_is_the_share_of_subsets_with_a_right_sample(size: int) -> None:
    for right in product([False, True], repeat=size):
        for n in range(1, size + 1):
            subsets = list(combinations(right, n))
            assert pass_rate(right, n) == pytest.approx(float(Fraction(sum(map(any, subsets)), len(subsets))))


def test_pass_is_the_estimator_of_the_papers_listing() -> None:
    """arXiv 2107.03374, figure 3."""
    for total, right, n in [(16, 3, 8), (200, 7, 100), (128, 0, 64), (100, 60, 50)]:
        published = 1.0 if total - right < n else 1 - np.prod(1 - n / np.arange(total - right + 1, total + 1))
        assert pass_rate([True] * right + [False] * (total - right), n) == pytest.approx(published)


def test_rules_of_aggregation_worked_out_by_hand() -> None:
    scores = [0.9, 0.5, 0.8]
    expected = {"mean": 2.2 / 3, "min": 0.5, "product": 0.36, "last": 0.8, "max": 0.9}
    assert {rule: aggregate(scores, rule) for rule in AGGREGATIONS} == pytest.approx(expected)
    assert all(aggregate([], rule) == 0.0 for rule in AGGREGATIONS), "nothing speaks for an answer without steps"
    assert all(aggregate([0.7], rule) == 0.7 for rule in AGGREGATIONS), "an outcome model's score is its only step's"
    assert [rule_of(name) for name in JUDGED] == ["mean", "min", "product", "last", "max", "mean", "mean", "mean"]


def slow_vote(answers: list[str | None], weights: list[float]) -> str | None:
    """The answer with the largest total; of several the one seen first."""
    totals: dict[str, float] = defaultdict(float)
    for answer, weight in zip(answers, weights, strict=True):
        if answer is not None:
            totals[answer] += weight
    best, found = -1.0, None
    for answer in answers:
        if answer is not None and totals[answer] > best:
            best, found = totals[answer], answer
    return found


@given(pools)
def test_votes_are_those_of_a_slow_count(pool: list[tuple[bool, str | None, float]]) -> None:
    answers, scores = [entry[1] for entry in pool], [entry[2] for entry in pool]
    for weights, chosen in ((None, vote(answers)), (scores, vote(answers, scores))):
        expected = slow_vote(answers, weights or [1.0] * len(pool))
        assert answers[chosen] == expected if expected is not None else chosen == 0
        assert chosen == answers.index(answers[chosen]) or expected is None


def test_votes_worked_out_by_hand() -> None:
    assert vote(["7", "4", "4"]) == 1
    assert vote(["7", "4", "4", "7"]) == 0, "of equal numbers of votes the answer seen first"
    assert vote(["7", "4", "4"], [0.9, 0.4, 0.4]) == 0, "one sure sample outweighs two unsure ones"
    assert vote([None, None, "4"]) == 2 and vote([None, None]) == 0
    assert vote(["7", "4"], [0.0, 0.0]) == 0


def test_a_choice_among_equal_scores_is_the_first() -> None:
    for strategy in JUDGED:
        assert choose(strategy, ["a", "b", "c"], [0.5, 0.5, 0.5]) == 0
        assert choose(strategy, ["a", "b", "c"], [0.1, 0.5, 0.5]) == 1


@given(pools)
def test_accuracy_is_the_mean_over_disjoint_runs(pool: list[tuple[bool, str | None, float]]) -> None:
    right, answers, scores = ([entry[place] for entry in pool] for place in range(3))
    for strategy in CHOOSING:
        for n in range(1, len(pool) + 1):
            verdicts = []
            for run in range(len(pool) // n):
                part = pool[run * n : (run + 1) * n]
                if strategy == "majority":
                    place = vote([entry[1] for entry in part])
                elif strategy == "weighted_majority":
                    place = vote([entry[1] for entry in part], [entry[2] for entry in part])
                else:
                    place = max(range(n), key=lambda i: (part[i][2], -i))
                verdicts.append(part[place][0])
            assert accuracy_at(n, strategy, right, answers, scores) == pytest.approx(np.mean(verdicts))


@given(st.lists(st.booleans(), min_size=1, max_size=16), st.integers(1, 16))
def test_a_judge_that_knows_the_truth_reaches_what_passes(right: list[bool], n: int) -> None:
    """With as many samples as there are: each run's best is right if any is."""
    answers = [str(place) for place in range(len(right))]
    for strategy in JUDGED:
        whole = len(right)
        assert accuracy_at(whole, strategy, right, answers, list(map(float, right))) == pass_rate(right, whole)
        if n <= whole:
            runs = [any(right[start : start + n]) for start in range(0, whole - n + 1, n)]
            oracle = accuracy_at(n, strategy, right, answers, list(map(float, right)))
            assert oracle == pytest.approx(np.mean(runs))


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_a_judge_that_says_the_same_of_all_gives_each_runs_first_sample(right: list[bool]) -> None:
    answers = [str(place) for place in range(len(right))]
    same = [0.5] * len(right)
    for strategy in JUDGED:
        for n in range(1, len(right) + 1):
            assert accuracy_at(n, strategy, right, answers, same) == pytest.approx(
                np.mean([right[start] for start in range(0, len(right) - n + 1, n)])
            )


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in OF_THEIR_OWN])
def test_one_sample_leaves_nothing_to_choose(strategy: Strategy) -> None:
    right = [True, False, False, True, True]
    answers: list[str | None] = ["a", None, "b", "a", "c"]
    assert accuracy_at(1, strategy, right, answers, [0.1, 0.9, 0.3, 0.2, 0.8]) == pytest.approx(0.6)
