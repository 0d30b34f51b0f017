"""Prompts chosen by difficulty: the ones that teach, none for ever, and the same again after an interruption."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from rewards.records import Prompt
from selection.config import SelectionConfig
from selection.prompts import ByDifficulty, Evidence, InOrder, chance_of_a_mixed_group
from tests.fixtures.builders import a_prompt

ROLLOUTS, COUNT = 8, 4


def a_task(rows: int) -> Callable[[int], Prompt]:
    """So many rows, asked again after the last one; odd ones are of another source."""
    return lambda index: a_prompt(f"p{index % rows}", source="even" if index % rows % 2 == 0 else "odd", images=[])


def choosing(prompt: Callable[[int], Prompt], seed: int = 0, **keys: float) -> ByDifficulty:
    return ByDifficulty(SelectionConfig(prompts="difficulty", **keys), prompt, ROLLOUTS, continuations=4, seed=seed)


def a_round(prompts: InOrder, number: int, right: Callable[[Prompt], float]) -> list[Prompt]:
    """Asked and answered, with so many right in a group."""
    chosen = prompts.choose(range(number * COUNT, (number + 1) * COUNT), number)
    for _, prompt in chosen:
        share = right(prompt)
        prompts.saw(prompt, [float(place < share * ROLLOUTS) for place in range(ROLLOUTS)], number)
    return [prompt for _, prompt in chosen]


@given(st.floats(0.05, 50), st.floats(0.05, 50), st.integers(1, 32))
def test_the_chance_of_a_mixed_group_is_that_of_a_beta_binomial(right: float, wrong: float, rollouts: int) -> None:
    counts = betabinom(rollouts, right, wrong)
    expected = 1 - counts.pmf(0) - counts.pmf(rollouts) if rollouts > 1 else -(1 - counts.pmf([0, 1]).sum())
    found = chance_of_a_mixed_group(np.array([right]), np.array([wrong]), rollouts)
    assert found == pytest.approx([expected], abs=1e-9)


def test_what_was_seen_of_older_weights_counts_less() -> None:
    seen = Evidence(4, 2, version=3)
    assert seen.at(3, 5) == (4, 2) and seen.at(8, 5) == (2, 1) and seen.at(1000, 0) == (4, 2)
    late = 0.5 ** (1 / 5)
    seen.add(1, 1, version=2, half_life=5)
    assert (seen.right, seen.wrong, seen.version) == pytest.approx((4 + late, 2 + late, 3)), "it came a version late"


@given(st.permutations([(3, 1, 0), (0, 2, 4), (1, 1, 9), (5, 0, 4)]))
def test_verdicts_count_the_same_in_whatever_order_they_come(verdicts: list[tuple[int, int, int]]) -> None:
    seen = Evidence()
    for right, wrong, version in verdicts:
        seen.add(right, wrong, version, half_life=3)
    fading = {version: 0.5 ** ((9 - version) / 3) for version in (0, 4, 9)}
    assert seen.right == pytest.approx(3 * fading[0] + 5 * fading[4] + 1)
    assert seen.wrong == pytest.approx(fading[0] + 2 * fading[4] + 1) and seen.version == 9


def of_32(prompt: Prompt) -> float:
    """How often it is right: of four prompts one is hopeless, two are sure, and one is open."""
    return [0.0, 1.0, 1.0, 0.5][int(prompt.id[1:]) % 4]


def test_prompts_with_mixed_groups_are_asked_more_often_and_every_other_in_time() -> None:
    prompts = choosing(a_task(32), prompts_half_life=0)
    rounds = [a_round(prompts, number, of_32) for number in range(96)]
    late = Counter(of_32(prompt) for prompts in rounds[32:] for prompt in prompts)
    assert late[0.5] / late.total() > 0.5, "in order it would be a quarter"
    for first in range(0, 64, 32):  # a quarter of four is one a round
        assert {prompt.id for asked in rounds[first : first + 33] for prompt in asked} == {f"p{n}" for n in range(32)}
    told = prompts.metrics()
    assert (
        told["selection/prompts_remembered"] == 32
        and told["selection/prompts_right/odd"] > told["selection/prompts_right/even"]
    )
    assert 0 < told["selection/prompts_expected_mixed"] < 1 and 0.5 < told["selection/prompts_asked_again"] <= 1
    assert 96 < prompts.gone_through(96 * COUNT) < 96 * COUNT
    shown = prompts.distributions()
    assert (
        len(shown["selection/prompts_right"]) == 32
        and shown["selection/prompts_right"].max() > 0.9 > 0.1 > shown["selection/prompts_right"].min()
    )


def test_a_source_says_what_to_think_of_its_prompts_that_nobody_asked() -> None:
    """There are always new ones: half of them hopeless, which only those in order still are."""
    prompts = choosing(a_task(10**6))
    for number in range(60):
        a_round(prompts, number, lambda prompt: 0.0 if prompt.source == "even" else 0.5)
    fresh = Counter(
        prompt.source
        for number in range(60, 120)
        for prompt in a_round(prompts, number, lambda prompt: 0.0 if prompt.source == "even" else 0.5)
    )
    assert fresh["odd"] > 3 * fresh["even"] > 0


def test_a_policy_that_moves_makes_old_verdicts_worth_less() -> None:
    """What was hopeless is asked as often as anything else, once what was seen of it is forgotten."""

    def late(half_life: float) -> float:
        found = []
        for seed in range(40):
            prompts, rounds = choosing(a_task(32), seed, prompts_half_life=half_life), 32 + seed
            for number in range(rounds):
                a_round(prompts, number, of_32)
            chosen = prompts.choose(range(rounds * COUNT, (rounds + 1) * COUNT), 10**4)
            found += [of_32(prompt) == 0.5 for _, prompt in chosen]
        return float(np.mean(found))

    assert late(1) < 0.33 < 0.4 < late(0)


def test_continuations_count_as_one_verdict_for_a_first_step() -> None:
    prompts = choosing(a_task(8))
    (_, prompt), *_ = prompts.choose(range(COUNT), 0)
    prompts.continued(prompt, right=3, wrong=1, version=0)
    asked = prompts.state()["asked"][prompt.id]["evidence"]
    assert (asked["right"], asked["wrong"]) == (0.75, 0.25)
    prompts.continued(prompt, right=1, wrong=0, version=0)
    asked = prompts.state()["asked"][prompt.id]["evidence"]
    assert (asked["right"], asked["wrong"]) == (1.0, 0.25), "fewer than all are a part of a verdict"
    prompts.continued(prompt, right=4, wrong=4, version=0)
    asked = prompts.state()["asked"][prompt.id]["evidence"]
    assert (asked["right"], asked["wrong"]) == (1.5, 0.75), "more than all are one"


def test_what_is_believed_of_a_prompt_is_its_sources_mean_worth_two_verdicts_and_its_own() -> None:
    prompts = choosing(a_task(8), prompts_half_life=4)
    (_, prompt), *_ = prompts.choose(range(COUNT), 0)
    assert prompts.believed(prompt, 0) == (1, 1), "nobody has answered anything"
    prompts.saw(prompt, [1.0] * 6 + [0.0] * 2, 0)
    assert prompts.believed(prompt, 0) == pytest.approx((2 * 7 / 10 + 6, 2 * 3 / 10 + 2))
    assert prompts.believed(a_prompt("never", source=prompt.source, images=[]), 0) == pytest.approx((1.4, 0.6))
    assert prompts.believed(prompt, 4) == pytest.approx((1.4 + 3, 0.6 + 1)), "half as much of its own by then"
    prompts.continued(prompt, right=1, wrong=3, version=0)
    assert prompts.believed(prompt, 0) == pytest.approx((2 * 7.25 / 11 + 6.25, 2 * 3.75 / 11 + 2.75))
    assert InOrder(a_task(8)).believed(prompt, 0) is None


def test_tables_show_who_is_asked_most_and_who_is_surest_to_be_mixed() -> None:
    prompts = choosing(a_task(32), prompts_half_life=0)
    assert prompts.standings() == {} == InOrder(a_task(32)).standings()
    asked = Counter(prompt.id for number in range(64) for prompt in a_round(prompts, number, of_32))
    most, surest = prompts.standings().values()
    assert [(row.name, row.times) for row in most] == sorted(asked.items(), key=lambda each: (-each[1], each[0]))[:10]
    assert len(surest) == 8 + 2 and all(int(row.name[1:]) % 4 == 3 for row in surest[:8]), "eight prompts are open"
    assert [row.mixed for row in surest] == sorted((row.mixed for row in surest), reverse=True)
    for row in surest[:8]:
        assert row.verdicts == asked[row.name] * ROLLOUTS and row.source == "odd"
        assert row.right == pytest.approx(0.5, abs=0.1) and row.mixed > 0.9
    again = choosing(a_task(32), prompts_half_life=0)
    again.restore(json.loads(json.dumps(prompts.state())), 64 * COUNT)
    assert again.standings() == prompts.standings()


@pytest.mark.parametrize("rows", [8, 12, 17])
def test_no_prompt_is_twice_in_a_round_where_there_are_enough(rows: int) -> None:
    """The task's order goes through the rows more than once within what is looked at ahead."""
    prompts = choosing(a_task(rows))
    for number in range(40):
        asked = {prompt.id for prompt in a_round(prompts, number, of_32)}
        assert len(asked) == COUNT


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_few_prompts_are_asked_twice_rather_than_too_few(rows: int) -> None:
    prompts = choosing(a_task(rows))
    for number in range(20):
        assert len(a_round(prompts, number, of_32)) == COUNT
    assert prompts.metrics()["selection/prompts_remembered"] == rows
    assert prompts.choose(range(0), 3) == []


def test_all_in_order_is_the_tasks_own_order() -> None:
    prompts = choosing(a_task(3), prompts_in_order=1)
    asked = []
    for number in range(6):
        for _, prompt in prompts.choose(range(2 * number, 2 * number + 2), number):
            asked.append(prompt.id)
            prompts.saw(prompt, [1.0, 0.0], number)
    assert asked == [f"p{place % 3}" for place in range(12)]


def test_a_group_that_never_came_is_not_a_prompts_first() -> None:
    prompts = choosing(a_task(10**6))
    (_, prompt), *_ = prompts.choose(range(COUNT), 3)
    prompts.saw(prompt, [], 3)
    assert prompts.state()["first_groups"] == {}
    prompts.saw(prompt, [1.0, 0.0], 3)
    prompts.saw(prompt, [1.0, 1.0], 3)
    assert prompts.state()["first_groups"]["even"] == {"right": 1.0, "wrong": 0.0, "version": 3}


def test_what_is_new_is_not_crowded_out_by_what_is_remembered() -> None:
    """Where all prompts are alike there is no reason to ask any of them again."""

    def asked(right: Callable[[Prompt], float]) -> list[Prompt]:
        prompts = choosing(a_task(10**6))
        return [prompt for number in range(240) for prompt in a_round(prompts, number, right)]

    alike = asked(lambda prompt: 0.5)
    assert len({prompt.id for prompt in alike}) > 0.9 * len(alike)
    few = asked(lambda prompt: 0.5 if int(prompt.id[1:]) % 8 < 2 else float(int(prompt.id[1:]) % 2))
    assert len({prompt.id for prompt in few}) > 0.3 * len(few)
    assert np.mean([int(prompt.id[1:]) % 8 < 2 for prompt in few]) > 0.5, "in order it would be a quarter"


def test_nobody_is_asked_again_while_an_answer_is_under_way() -> None:
    prompts = choosing(a_task(64))
    for number in range(16):
        a_round(prompts, number, of_32)
    asked = [prompt.id for number in range(16, 24) for _, prompt in prompts.choose(range(number, number + COUNT), 9)]
    assert len(asked) == 32 == len(set(asked))


def test_the_longest_unasked_are_forgotten() -> None:
    prompts = choosing(a_task(10**6), prompts_remembered=12)
    for number in range(30):
        last = a_round(prompts, number, lambda _: 0.5)
        assert len(prompts.state()["asked"]) <= 12
    assert {prompt.id for prompt in last} <= prompts.state()["asked"].keys()


@pytest.mark.parametrize("rows", [10, 1000])
def test_a_run_that_goes_on_asks_what_it_would_have_asked(rows: int) -> None:
    prompts, again = choosing(a_task(rows)), choosing(a_task(rows))
    for number in range(24):
        assert a_round(prompts, number, of_32) == a_round(again, number, of_32)
        state = json.loads(json.dumps(again.state()))
        again = choosing(a_task(rows))
        again.restore(state, (number + 1) * COUNT)
        assert again.state() == prompts.state()


def test_a_run_that_began_in_order_goes_on_by_difficulty_from_where_it_was() -> None:
    prompts, asked = choosing(a_task(1000)), InOrder(a_task(1000)).choose(range(20), 4)
    prompts.restore(InOrder(a_task(1000)).state(), 20)
    for _, prompt in asked[-2:]:  # which were under way
        prompts.saw(prompt, [1.0, 0.0], 4)
    assert {int(prompt.id[1:]) for prompt in a_round(prompts, 5, of_32)} <= {*range(20, 28)}
    assert prompts.gone_through(24) == 24
