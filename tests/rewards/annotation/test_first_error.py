"""Tail stop and binary search, against looking at every step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.annotation.annotator import Annotation
from rewards.annotation.budgets import make_budget
from rewards.annotation.first_error import FirstError
from rewards.verification.verifiers import exact
from tests.fixtures.builders import a_prompt, a_rollout
from tests.fixtures.simulated_engine import SimulatedEngine, decode, finish

MOST = 4


def label(
    rates: Sequence[Sequence[float]], first_error: FirstError, name: str = "fixed", weight: float = 0.0
) -> tuple[list[list[float]], list[list[float]], list[set[int]]]:
    """Steps with these success rates: right and sampled counts, and which steps of each rollout were asked for."""
    rollouts = [a_rollout([1] * len(row), prompt=str(i), outcome=0.0) for i, row in enumerate(rates)]
    prompts = [a_prompt(str(i)) for i in range(len(rates))]
    budget = make_budget(name, MOST, first_error=first_error, outcome_weight=weight)
    engine = SimulatedEngine(lambda request: rates[int(request.prompt.id)][len(request.prefix) - 1])
    annotation = finish(Annotation(rollouts, prompts, budget, decode, exact, 0), engine)
    asked: list[set[int]] = [set() for _ in rates]
    for request in itertools.chain(*engine.rounds):
        asked[int(request.prompt.id)].add(len(request.prefix) - 1)
    counts = annotation.counts()
    return [c.correct.tolist() for c in counts], [c.sampled.tolist() for c in counts], asked


ALL_PATTERNS = [row for steps in range(7) for row in itertools.product([0.0, 1.0], repeat=steps)]


@pytest.mark.parametrize("name", ["fixed", "first_success", "sequential"])
def test_stop_labels_up_to_the_first_error_and_samples_nothing_after_it(name: str) -> None:
    right, sampled, asked = label(ALL_PATTERNS, "stop", name)
    for row, correct, finished, places in zip(ALL_PATTERNS, right, sampled, asked, strict=True):
        end = row.index(0.0) + 1 if 0.0 in row else len(row)
        assert places == set(range(end))
        assert [n > 0 for n in finished] == [j < end for j in range(len(row))]
        assert [k > 0 for k in correct] == [bool(rate) and j < end for j, rate in enumerate(row)]


@pytest.mark.parametrize("name", ["fixed", "first_success", "sequential"])
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 12])
def test_search_finds_the_error_that_looking_at_every_step_finds(name: str, steps: int) -> None:
    """Where no error is repaired: every place of the first error, in one batch."""
    rows = [[1.0] * c + [0.0] * (steps - c) for c in range(steps + 1)]
    right, sampled, asked = label(rows, "search", name)
    exhaustive, _, _ = label(rows, "ignore", name)
    for c, (correct, finished, places, truth) in enumerate(zip(right, sampled, asked, exhaustive, strict=True)):
        end = min(c + 1, steps)
        assert [n > 0 for n in finished] == [j < end for j in range(steps)]
        assert [k > 0 for k in correct[:end]] == [k > 0 for k in truth[:end]]
        assert len(places) <= ceil(log2(steps + 1))


def test_a_step_before_a_positive_one_takes_over_its_counts() -> None:
    rates = [[0.9, 0.9, 0.5, 0.9, 0.0, 0.9, 0.9]]
    (right,), (sampled,), (asked,) = label(rates, "search")
    # The middle step first, then the middle one of those after it, and so on.
    assert asked == {3, 5, 6}
    assert right[:3] == [right[3]] * 3
    assert sampled[:4] == [MOST] * 4


def test_search_keeps_a_steps_own_counts_and_leaves_out_what_comes_after_the_error() -> None:
    (right,), (sampled,), (asked,) = label([[1.0, 1.0, 1.0, 0.0, 0.0]], "search")
    assert asked == {2, 3}
    assert right == [MOST, MOST, MOST, 0, 0]
    assert sampled == [MOST, MOST, MOST, MOST, 0]


def test_outcomes_that_count_are_evidence_for_the_search() -> None:
    """A right answer has no error to look for."""
    rollout = a_rollout([1, 1, 1, 1], outcome=1.0)
    budget = make_budget("first_success", MOST, first_error="search", outcome_weight=1.0)
    annotation = Annotation([rollout], [a_prompt()], budget, decode, exact, 0)
    assert annotation.requests() == []
    assert annotation.counts()[0].correct.tolist() == [1, 1, 1, 1]


def test_search_believes_its_own_success_against_a_failure_that_another_rollout_found() -> None:
    """The first step in common fails for the short rollout; the long one has a success behind it and searches on."""
    short, long = a_rollout([1, 1], tokens=(4, 5, 1)), a_rollout([1] * 5, tokens=(4, 6, 7, 8, 9, 1))
    budget = make_budget("fixed", MOST, first_error="search", share_prefixes=True)
    engine = SimulatedEngine(lambda request: float(request.prefix[1:2] == (6,)))
    annotation = Annotation([short, long], [a_prompt()] * 2, budget, decode, exact, 0)
    first, second = finish(annotation, engine).counts()
    assert (first.correct.tolist(), first.sampled.tolist()) == ([0, 0], [MOST, 0])
    assert (second.correct.tolist(), second.sampled.tolist()) == ([0, MOST, MOST, MOST, MOST], [MOST] * 5)


@settings(max_examples=100)
@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.2, 1.0]), max_size=7), max_size=6),
    st.sampled_from(["stop", "search"]),
    st.sampled_from([0.0, 1.0]),
)
def test_labels_are_a_beginning_of_the_rollout_that_ends_with_its_only_error(
    rates: list[list[float]], first_error: FirstError, weight: float
) -> None:
    """Also where errors are repaired."""
    right, sampled, _ = label(rates, first_error, "first_success", weight)
    for correct, finished in zip(right, sampled, strict=True):
        labelled = [n > 0 for n in finished]
        assert labelled == sorted(labelled, reverse=True)
        positive = [k > 0 for k, n in zip(correct, finished, strict=True) if n > 0]
        assert all(positive[:-1])
        assert sum(labelled) == len(finished) or not positive[-1]
