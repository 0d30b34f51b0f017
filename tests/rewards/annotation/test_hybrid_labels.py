"""Counts and verdicts joined: the documented table, word for word."""

from __future__ import annotations

from math import isnan, nan
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.annotation.hybrid_labels import Agreement, HybridRule, Rule, hybrid_labels
from rewards.records import StepCounts
from tests.fixtures.builders import some_counts

KINDS = ("perception", "reasoning", "")


def join(correct: float, sampled: float, verdict: float, rule: HybridRule, kind: str = "") -> tuple[float, float]:
    """What becomes of one step."""
    counts = StepCounts(np.array([correct]), np.array([sampled]), 3)
    (joined,), _ = hybrid_labels([counts], [np.array([verdict])], [[kind]], rule)
    assert joined.policy_version == 3
    return joined.correct.item(), joined.sampled.item()


@pytest.mark.parametrize(
    ("rule", "judged_wrong", "judged_right"),
    [
        ("monte_carlo", (3, 8), (0, 8)),
        ("judge", (0, 8), (8, 8)),
        ("negative", (0, 8), (0, 8)),
        ("positive", (3, 8), (8, 8)),
        ("drop", (0, 0), (0, 0)),
    ],
)
def test_where_they_disagree_the_rule_decides(
    rule: Rule, judged_wrong: tuple[int, int], judged_right: tuple[int, int]
) -> None:
    assert join(3, 8, 0.0, HybridRule(rule)) == judged_wrong
    assert join(0, 8, 1.0, HybridRule(rule)) == judged_right


@pytest.mark.parametrize("rule", get_args(Rule))
@pytest.mark.parametrize("fill", [0, 4])
def test_where_they_agree_or_the_judge_is_silent_the_counts_stay(rule: Rule, fill: int) -> None:
    for correct, verdict in ((3, 1.0), (0, 0.0), (3, nan), (0, nan)):
        assert join(correct, 8, verdict, HybridRule(rule, fill=fill)) == (correct, 8)
    assert join(0, 0, nan, HybridRule(rule, fill=fill)) == (0, 0)


@pytest.mark.parametrize("rule", get_args(Rule))
def test_a_verdict_fills_in_for_missing_counts_only_if_it_may(rule: Rule) -> None:
    assert join(0, 0, 1.0, HybridRule(rule, fill=4)) == (4, 4)
    assert join(0, 0, 0.0, HybridRule(rule, fill=4)) == (0, 4)
    assert join(0, 0, 1.0, HybridRule(rule)) == join(0, 0, 0.0, HybridRule(rule)) == (0, 0)


def test_the_judge_has_a_say_in_the_configured_kinds_only() -> None:
    for kind in KINDS:
        rule = HybridRule("judge", kinds=("perception",), fill=4)
        says = kind == "perception"
        assert join(3, 8, 0.0, rule, kind) == ((0, 8) if says else (3, 8))
        assert join(0, 0, 1.0, rule, kind) == ((4, 4) if says else (0, 0))


def test_a_step_is_right_above_the_threshold() -> None:
    """1 of 8 is right at tau 0, and wrong at tau 1/8: then a judge that says right disagrees."""
    assert join(1, 8, 1.0, HybridRule("judge")) == (1, 8)
    assert join(1, 8, 1.0, HybridRule("judge", threshold=1 / 8)) == (8, 8)


def test_agreement_is_counted_where_both_spoke_whoever_decides() -> None:
    counts = [some_counts([8, 0, 4, 0], [8, 8, 8, 0]), some_counts([0, 2])]
    verdicts = [np.array([1.0, 1.0, 0.0, 1.0]), np.array([0.0, nan])]
    kinds = [["perception", "perception", "reasoning", "reasoning"], ["perception", ""]]
    _, agreement = hybrid_labels(counts, verdicts, kinds, HybridRule("monte_carlo", kinds=()))
    assert agreement == Agreement(compared={"perception": 3, "reasoning": 1}, agreed={"perception": 2, "reasoning": 0})
    assert agreement.share() == 2 / 4
    assert (agreement.share("perception"), agreement.share("reasoning")) == (2 / 3, 0.0)
    assert isnan(agreement.share("")) and isnan(Agreement({}, {}).share())


STEP = st.tuples(
    st.integers(0, 8).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from([0.0, 1.0, nan]),
    st.sampled_from(KINDS),
)


@given(
    st.lists(STEP, max_size=6),
    st.sampled_from(get_args(Rule)),
    st.sets(st.sampled_from(KINDS)),
    st.sampled_from([0, 5]),
)
def test_it_is_what_a_plain_reading_of_the_table_gives(
    steps: list[tuple[tuple[int, int], float, str]], rule: Rule, kinds: set[str], fill: int
) -> None:
    def expected(k: int, n: int, verdict: float, kind: str) -> tuple[int, int]:
        if isnan(verdict) or kind not in kinds:
            return k, n
        if n == 0:
            return (fill if verdict else 0), fill
        if (k > 0) == (verdict == 1) or rule == "monte_carlo":
            return k, n
        if rule == "drop":
            return 0, 0
        right = {"judge": verdict == 1, "negative": False, "positive": True}[rule]
        return (k if k > 0 else n) if right else 0, n

    counts = StepCounts(
        np.array([k for (k, _), _, _ in steps], dtype=np.int64),
        np.array([n for (_, n), _, _ in steps], dtype=np.int64),
        0,
    )
    verdicts = np.array([verdict for _, verdict, _ in steps])
    (joined,), _ = hybrid_labels(
        [counts], [verdicts], [[kind for _, _, kind in steps]], HybridRule(rule, tuple(kinds), fill)
    )
    found = list(zip(joined.correct.tolist(), joined.sampled.tolist(), strict=True))
    assert found == [expected(*pair, verdict, kind) for pair, verdict, kind in steps]
    assert joined.correct.dtype == joined.sampled.dtype == np.int64
