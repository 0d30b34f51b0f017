"""Evidence that costs nothing: prefixes in common, and the outcomes of the rollouts themselves."""

from __future__ import annotations

from rewards.annotation.budgets import make_budget
from tests.fixtures.builders import a_rollout
from tests.fixtures.simulated_engine import (
    SimulatedEngine,
    annotation_of,
    finish,
    found,
)


def test_equal_prefixes_of_a_group_are_sampled_once_and_count_for_all() -> None:
    first, second = a_rollout([1, 1], tokens=(4, 5, 1)), a_rollout([1, 1, 1], tokens=(4, 6, 7, 1))
    elsewhere = a_rollout([1], tokens=(4, 1), group=1)
    engine = SimulatedEngine(lambda request: 0.5)
    annotation = finish(
        annotation_of([first, second, elsewhere], make_budget("fixed", 1000, share_prefixes=True)), engine
    )
    assert [request.prefix for request in engine.rounds[0]] == [(4,), (4, 5), (4, 6), (4, 6, 7), (4,)]
    one, two, other = annotation.counts()
    assert one.correct[0] == two.correct[0] != other.correct[0]
    assert annotation.cost().continuations == 5 * 1000
    assert annotation.cost().fixed_continuations == 6 * 1000


def test_an_outcome_counts_at_its_own_prefixes_with_its_weight() -> None:
    rollouts = [
        a_rollout([1, 1], outcome=1.0, prompt="a"),
        a_rollout([1, 1], outcome=0.0, prompt="b"),
        a_rollout([1, 1], outcome=0.0, prompt="c", finish_reason="length"),
    ]
    budget = make_budget("fixed", 4, outcome_weight=0.5)
    annotation = finish(annotation_of(rollouts, budget), SimulatedEngine(lambda request: 1.0))
    assert found(annotation) == [([4.5, 4.5], [4.5, 4.5]), ([4, 4], [4.5, 4.5]), ([4, 4], [4, 4])]


def test_outcomes_of_the_group_count_at_common_prefixes_even_of_rollouts_that_are_not_labelled() -> None:
    labelled = a_rollout([1, 1], tokens=(4, 5, 1), outcome=0.0)
    siblings = [
        a_rollout([1, 1], tokens=(4, 6, 1), outcome=1.0),
        a_rollout([1, 1], tokens=(4, 5, 2), outcome=1.0),
        a_rollout([1], tokens=(7, 1), outcome=1.0),
        a_rollout([1], tokens=(4, 1), outcome=1.0, group=1),
    ]
    engine = SimulatedEngine(lambda request: 0.0)
    budget = make_budget("fixed", 2, outcome_weight=1.0, share_prefixes=True)
    assert found(finish(annotation_of([labelled], budget, siblings=siblings), engine)) == [([2, 1], [5, 4])]
    alone = make_budget("fixed", 2, outcome_weight=1.0)
    assert found(finish(annotation_of([labelled], alone, siblings=siblings), engine)) == [([0, 0], [3, 3])]
