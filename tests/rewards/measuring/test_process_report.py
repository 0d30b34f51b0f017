"""Thresholds: how one is chosen on a part, which part that is, and that it is not reported."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.measuring.process_benchmark import Bench, BenchmarkError
from rewards.measuring.process_metrics import mean_first_error_f1, micro_over_sources
from rewards.measuring.process_report import Threshold, make_report, split, tune
from rewards.measuring.process_scores import ScoredSolution

SCORES = st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.6, 1.0])


def some_solutions(count: int = 40, seed: int = 0) -> list[ScoredSolution]:
    rng = np.random.default_rng(seed)
    return [
        ScoredSolution("ab"[i % 2], f"problem {i // 3}", rng.choice([1, -1], 4), rng.random(4).round(2), ("",) * 4)
        for i in range(count)
    ]


@settings(max_examples=60)
@given(st.lists(st.lists(st.tuples(SCORES, st.sampled_from([1, -1])), min_size=1, max_size=5), min_size=1, max_size=8))
def test_no_threshold_is_better_on_the_part_it_was_chosen_on(drawn: list[list[tuple[float, int]]]) -> None:
    part = [
        ScoredSolution("dev", "p", np.array([y for _, y in steps]), np.array([s for s, _ in steps]), ("",) * len(steps))
        for steps in drawn
    ]
    rest = [ScoredSolution("test", "p", np.array([1]), np.array([0.3]), ("",))]
    threshold, reported = tune("visualprocessbench", [*part, *rest], "source=dev")
    assert reported == rest
    assert (threshold.origin, threshold.tuned_on, threshold.tuned_solutions) == ("tuned", "source=dev", len(part))
    grid = np.linspace(0, 1, 21)
    best = micro_over_sources(part, grid).max()
    (value,) = micro_over_sources(part, np.array([threshold.value]))
    assert value == best


@pytest.mark.parametrize(
    ("bench", "headline"), [("visualprocessbench", micro_over_sources), ("processbench", mean_first_error_f1)]
)
def test_each_benchmark_is_tuned_for_its_own_headline(bench: Bench, headline) -> None:  # type: ignore[no-untyped-def]
    solutions = some_solutions()
    threshold, _ = tune(bench, solutions, "0.5")
    part, _ = split(solutions, "0.5")
    values = {at: headline(part, np.array([at]))[0] for at in {1.0, *(float(s) for x in part for s in x.scores)}}
    assert values[threshold.value] == max(values.values())
    assert all(abs(at - 0.5) >= abs(threshold.value - 0.5) for at, v in values.items() if v == max(values.values()))


def test_a_share_is_the_same_problems_whatever_else_is_there_and_keeps_a_problem_whole() -> None:
    solutions = some_solutions(600)
    part, rest = split(solutions, "0.3")
    assert {x.problem for x in part}.isdisjoint(x.problem for x in rest)
    assert len(part) + len(rest) == 600 and 0.2 < len(part) / 600 < 0.4
    fewer = split(solutions[100:200], "0.3")[0]
    assert {id(x) for x in fewer} == {id(x) for x in solutions[100:200]} & {id(x) for x in part}
    # A larger share has all of a smaller one.
    assert {x.problem for x in split(solutions, "0.2")[0]} < {x.problem for x in part}


@pytest.mark.parametrize(
    ("tune_on", "told"),
    [
        ("0", "allowed is a share above 0 and below 1, or source=NAME"),
        ("1", "allowed is a share above 0 and below 1"),
        ("nan", "allowed is a share above 0 and below 1"),
        ("test", "--tune-on test: allowed is a share"),
        ("split=a", "allowed is a share"),
        ("source=c", "--tune-on source=c holds no labelled step of 40 solutions; sources are a, b"),
        ("0.000001", "holds no labelled step"),
        ("0.999999", "leaves no labelled step"),
    ],
)
def test_a_part_that_cannot_be_is_refused(tune_on: str, told: str) -> None:
    with pytest.raises(BenchmarkError, match=told):
        tune("visualprocessbench", some_solutions(), tune_on)


def test_a_threshold_says_where_it_comes_from() -> None:
    assert Threshold().told() == "0.5, the default"
    assert Threshold(0.25, "given").told() == "0.25, as given"
    tuned = Threshold(0.4, "tuned", "0.2", 1234)
    assert "1,234 solutions (0.2)" in tuned.told() and "not reported" in tuned.told()
    assert tuned.to_json() == {"threshold": 0.4, "threshold_from": "tuned", "tuned_on": "0.2", "tuned_solutions": 1234}


def test_of_equally_good_thresholds_the_one_nearest_to_a_half_is_chosen() -> None:
    part = ScoredSolution("dev", "p", np.array([-1, 1, -1, 1]), np.array([0.1, 0.27, 0.43, 0.6]), ("",) * 4)
    rest = ScoredSolution("test", "p", np.array([1]), np.array([0.3]), ("",))
    values = micro_over_sources([part], np.array([0.1, 0.27, 0.43, 0.6, 1.0]))
    assert values[1] == values[3] == values.max(), "one wrong step passes, or one right step does not"
    assert tune("visualprocessbench", [part, rest], "source=dev")[0].value == 0.6


def test_a_source_with_neutral_steps_alone_is_left_out() -> None:
    neutral = ScoredSolution("neutral", "p", np.array([0, 0]), np.array([0.3, 0.6]), ("",) * 2)
    report = make_report("visualprocessbench", [neutral, *some_solutions()], Threshold())
    assert list(report.per_source) == ["a", "b"]
