"""Credit rules, against slow plain versions written token by token from the formulas of their papers."""

from __future__ import annotations

import doctest
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given, settings

from rewards.credit.batch import CreditRule, ScoredBatch
from rewards.credit.comparison import Comparison, group_normalised, leave_one_out
from rewards.credit.min_form import min_form
from rewards.credit.monte_carlo import monte_carlo, state_values
from rewards.credit.process import process
from rewards.credit.progress import progress
from rewards.credit.ps_grpo import largest_drop
from rewards.credit.rules import CREDIT_RULES
from rewards.credit.token_rewards import TOKEN_REWARDS
from rewards.records import StepCounts
from tests.fixtures.builders import some_counts
from tests.fixtures.credit_cases import CASES, Case, Step, batch_of, plain_transformed, simple

pytestmark = pytest.mark.filterwarnings("error")  # a mean of nothing would warn

RULES = [pytest.param(rule, id=name) for name, rule in CREDIT_RULES.items()]
REWARDS = [pytest.param(rule, id=f"reward-{name}") for name, rule in TOKEN_REWARDS.items()]
PRECISE = 1e-7


def plain_compared(batch: ScoredBatch, rewards: list[float], i: int) -> float:
    """GRPO's or RLOO's advantage of one rollout, by the book."""
    group = batch.rollouts[i].group
    peers = [j for j, rollout in enumerate(batch.rollouts) if rollout.group == group]
    if batch.comparison is leave_one_out:
        others = [rewards[j] for j in peers if j != i]
        return rewards[i] - fmean(others) if others else 0.0
    spread = stdev(rewards[j] for j in peers) if len(peers) > 1 else 0.0
    return (rewards[i] - fmean(rewards[j] for j in peers)) / (spread + 1e-4)


def plain_outcome(batch: ScoredBatch, i: int, t: int) -> float:
    return plain_compared(batch, [r.outcome for r in batch.rollouts], i)


def plain_additive(batch: ScoredBatch, i: int, t: int) -> float:
    rewards = [r.outcome + (fmean(p) if len(p) else 0) for r, p in zip(batch.rollouts, batch.scores, strict=True)]
    return plain_compared(batch, rewards, i)


def plain_ps_grpo(batch: ScoredBatch, i: int, t: int) -> float:
    rewards = []
    for rollout, p in zip(batch.rollouts, batch.scores, strict=True):
        doubted = any(p[j] > 0 and (p[j] - p[j + 1]) / p[j] >= 0.3 for j in range(len(p) - 1))
        rewards.append(rollout.outcome * 0.5 if doubted and rollout.outcome > 0 else rollout.outcome)
    return plain_compared(batch, rewards, i)


def plain_process(batch: ScoredBatch, i: int, t: int) -> float:
    group = batch.rollouts[i].group
    pool = [p for r, row in zip(batch.rollouts, batch.scores, strict=True) if r.group == group for p in row]
    total = 0.0
    for span, p in zip(batch.rollouts[i].steps, batch.scores[i], strict=True):
        if span.end - 1 >= t:
            total += (p - fmean(pool)) / ((stdev(pool) if len(pool) > 1 else 0.0) + 1e-4)
    return total


def plain_min_form(batch: ScoredBatch, i: int, t: int) -> float:
    own = batch.rollouts[i]
    others = [j for j, r in enumerate(batch.rollouts) if r.group == own.group and j != i]
    tokens = sum(len(batch.rollouts[j].token_ids) for j in others)
    baseline = sum(sum(plain_transformed(batch.scores[j])) for j in others) / tokens if tokens else 0.0
    total = own.outcome - fmean(batch.rollouts[j].outcome for j in others) if others else 0.0
    for span, reward in zip(own.steps, plain_transformed(batch.scores[i]), strict=True):
        if span.end - 1 >= t:
            total += reward - baseline * (span.end - span.start)
    return total


def plain_gain(batch: ScoredBatch, i: int, j: int) -> float:
    """What step j of a rollout raised its score by, minus the mean of what the group's steps of that number did."""
    raised = [
        p[j] - (p[j - 1] if j else 0.0)
        for rollout, p in zip(batch.rollouts, batch.scores, strict=True)
        if rollout.group == batch.rollouts[i].group and len(p) > j
    ]
    own = batch.scores[i]
    return own[j] - (own[j - 1] if j else 0.0) - fmean(raised)


def plain_progress(batch: ScoredBatch, i: int, t: int) -> float:
    squares = [plain_gain(batch, k, j) ** 2 for k, row in enumerate(batch.scores) for j in range(len(row))]
    centred = []
    for rollout in batch.rollouts:
        peers = [other.outcome for other in batch.rollouts if other.group == rollout.group]
        centred.append((rollout.outcome - fmean(peers)) ** 2)
    scale = math.sqrt(max(fmean(squares) if squares else 0.0, fmean(centred)))
    gain = 0.0
    for j, span in enumerate(batch.rollouts[i].steps):
        if span.start <= t < span.end:
            gain = plain_gain(batch, i, j) / (scale + 1e-6)
    return plain_outcome(batch, i, t) + gain


def plain_monte_carlo(batch: ScoredBatch, i: int, t: int) -> float:
    own, counts = batch.rollouts[i], batch.counts[i] if batch.counts else None
    before = fmean(r.outcome for r in batch.rollouts if r.group == own.group)
    for j, span in enumerate(own.steps):
        sampled = 0 if counts is None else counts.sampled[j]
        after = counts.correct[j] / sampled if counts is not None and sampled else batch.scores[i][j]
        if t < span.end:
            return (own.outcome if span.end == len(own.token_ids) else after) - before
        before = after
    return own.outcome - before


PLAIN: dict[str, Callable[[ScoredBatch, int, int], float]] = {
    "outcome": plain_outcome,
    "process": plain_process,
    "additive": plain_additive,
    "ps_grpo": plain_ps_grpo,
    "min_form": plain_min_form,
    "progress": plain_progress,
    "monte_carlo": plain_monte_carlo,
}


@pytest.mark.parametrize("comparison", [group_normalised, leave_one_out])
@pytest.mark.parametrize("name", CREDIT_RULES)
@settings(max_examples=60)
@given(cases=CASES)
def test_every_token_has_the_advantage_of_the_formula(name: str, comparison: Comparison, cases: list[Case]) -> None:
    batch = batch_of(cases, comparison)
    for i, tokens in enumerate(CREDIT_RULES[name](batch)):
        expected = [PLAIN[name](batch, i, t) for t in range(len(batch.rollouts[i].token_ids))]
        assert tokens == pytest.approx(np.array(expected), abs=PRECISE)


@pytest.mark.parametrize("rule", [*RULES, *REWARDS])
@settings(max_examples=30)
@given(cases=CASES)
def test_the_order_of_rollouts_does_not_matter(rule: CreditRule, cases: list[Case]) -> None:
    forward, backward = rule(batch_of(cases)), rule(batch_of(cases[::-1]))
    for one, other in zip(forward, reversed(backward), strict=True):
        assert one == pytest.approx(other, abs=PRECISE)


@pytest.mark.parametrize("rule", [p for p in (*RULES, *REWARDS) if p.values[0] is not progress])
@settings(max_examples=30)
@given(cases=CASES)
def test_a_group_does_not_depend_on_the_others(rule: CreditRule, cases: list[Case]) -> None:
    """But for `progress`, whose scale is the batch's."""
    whole, own = rule(batch_of(cases)), [case for case in cases if case.group == 1]
    alone = rule(batch_of(own))
    together = [tokens for tokens, case in zip(whole, cases, strict=True) if case.group == 1]
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=PRECISE)


@pytest.mark.parametrize("rule", [*RULES, *REWARDS])
@settings(max_examples=30)
@given(cases=CASES)
def test_rules_change_nothing_they_are_given(rule: CreditRule, cases: list[Case]) -> None:
    batch, same = batch_of(cases), batch_of(cases)
    for tokens in rule(batch):
        tokens += 1  # and what they give is the caller's own
    assert [p.tolist() for p in batch.scores] == [p.tolist() for p in same.scores]
    assert batch.rollouts == same.rollouts


@pytest.mark.parametrize("rule", [*RULES, *REWARDS])
def test_nothing_and_extremes_give_finite_advantages(rule: CreditRule) -> None:
    assert rule(ScoredBatch([], [])) == []
    empty = Case(0, 1.0, [], 0, True)
    assert [len(tokens) for tokens in rule(batch_of([empty]))] == [0]
    assert [len(tokens) for tokens in rule(batch_of([empty, Case(0, 0.0, [], 3, False)]))] == [0, 3]
    for scores in ([[0.0, 0.0], [0.0]], [[1.0, 1.0], [1.0]], [[0.0, 1.0, 0.0], []], [[1e-300, 0.0], [1e-300]]):
        for outcomes in ([1.0, 1.0], [1e9, -1e9]):
            given = rule(simple(outcomes, scores))
            assert [len(tokens) for tokens in given] == [len(row) + 1 for row in scores]
            assert all(np.isfinite(tokens).all() for tokens in given)


@pytest.mark.parametrize("rule", [*RULES, *REWARDS])
def test_each_rule_shows_an_example_that_is_true_and_names_its_failure(rule: CreditRule) -> None:
    assert "Known failure:" in (rule.__doc__ or "")
    (example,) = doctest.DocTestFinder(recurse=False).find(rule, rule.__name__)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


def test_only_monte_carlo_asks_for_counts() -> None:
    rules = {**CREDIT_RULES, **{f"reward {name}": rule for name, rule in TOKEN_REWARDS.items()}}
    assert [name for name, rule in rules.items() if getattr(rule, "needs_counts", False)] == ["monte_carlo"]


# What single rules promise, and how they are known to fail.


@pytest.mark.parametrize("name", ["outcome", "additive", "ps_grpo"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_group_of_equals_teaches_nothing(name: str, value: float) -> None:
    batch = simple([value] * 3, [[0.8, 0.9]] * 3)
    assert all(np.abs(tokens).max() < 1e-9 for tokens in CREDIT_RULES[name](batch))


def test_process_pays_for_more_right_steps_whatever_the_answer() -> None:
    """The known failure: three right steps more earn more, though the answer is wrong; `progress` is not fooled."""
    short, padded, poor = [0.9], [0.9, 0.9, 0.9, 0.9], [0.1]
    batch = simple([1.0, 0.0, 0.0], [short, padded, poor])
    first = [tokens[0] for tokens in process(batch)]
    assert first[1] > 3 * first[0] > 0
    assert progress(batch)[1][1] < 0 < progress(batch)[0][0]


def test_additive_pays_for_leaving_out_the_weakest_step() -> None:
    whole, without, other = [0.9, 0.5], [0.9], [0.2]
    first = [tokens[0] for tokens in CREDIT_RULES["additive"](simple([1.0, 1.0, 0.0], [whole, without, other]))]
    assert first[1] > first[0]


@pytest.mark.parametrize(
    ("scores", "drop"),
    [
        ([], 0),
        ([0.5], 0),
        ([0.2, 0.5, 0.9], 0),
        ([0.8, 0.4], 0.5),
        ([0.0, 0.0, 0.5, 0.0], 1),
        ([0.5, 0.9, 0.72, 0.36], 0.5),
        ([1.0, 0.75, 0.6], 0.25),
    ],
)
def test_the_largest_drop(scores: list[float], drop: float) -> None:
    assert largest_drop(np.array(scores)) == pytest.approx(drop)


@pytest.mark.parametrize(("after", "reward"), [(0.7501, 1.0), (0.75, 0.5), (0.7499, 0.5), (0.0, 0.5)])
def test_ps_grpo_takes_gamma_from_rho_on(after: float, reward: float) -> None:
    """With rho = 1/4, which floating point knows exactly; a wrong answer stays at 0."""
    batch = simple([1.0, 0.0], [[1.0, after], [1.0, after]])
    batch = ScoredBatch(batch.rollouts, batch.scores, comparison=leave_one_out)
    right, wrong = CREDIT_RULES["ps_grpo"](batch, rho=0.25, gamma=0.5)
    assert right[0] == pytest.approx(reward)
    assert wrong[0] == pytest.approx(-reward)


@settings(max_examples=60)
@given(CASES)
def test_min_form_tends_to_the_minimum(cases: list[Case]) -> None:
    """As T -> 0 the return from the first token is the least reward, from behind it nothing (PURE, section 3)."""
    cases = [Case(i, 0.0, case.steps, case.tail, False) for i, case in enumerate(cases)]  # each alone: no baseline
    for case, tokens in zip(cases, min_form(batch_of(cases), temperature=1e-9), strict=True):
        rewards = [2 * step.score - 1 for step in case.steps]
        if not rewards or sorted(rewards)[0] > sorted([*rewards, 3.0])[1] - 1e-6:
            continue  # none, or two share the minimum
        worst = rewards.index(min(rewards))
        ends = np.cumsum([step.gap + step.tokens for step in case.steps])
        assert tokens[: ends[worst]] == pytest.approx(min(rewards), abs=1e-9)
        assert tokens[ends[worst] :] == pytest.approx(0, abs=1e-9)


def test_min_form_does_not_pay_for_more_steps_as_a_sum_does() -> None:
    """Steps as good as the others change the least of them hardly at all."""
    few, many = (min_form(simple([0.0], [[0.9, *[0.9] * k]]))[0][0] for k in (0, 5))
    assert few == pytest.approx(many) == pytest.approx(0.8)


def actions(tokens: np.ndarray, case: Case) -> list[float]:
    """The advantage of each action: up to each step's end, and after the last one."""
    ends = [0, *np.cumsum([step.gap + step.tokens for step in case.steps]).tolist(), len(tokens)]
    parts = [tokens[start:end] for start, end in itertools.pairwise(ends)]
    assert all(np.ptp(part) == 0 for part in parts if len(part))
    return [float(part[0]) for part in parts if len(part)]


@settings(max_examples=60)
@given(CASES)
def test_monte_carlo_telescopes_whatever_was_counted(cases: list[Case]) -> None:
    batch = batch_of(cases)
    for case, tokens in zip(cases, monte_carlo(batch), strict=True):
        start = fmean(other.outcome for other in cases if other.group == case.group)
        if len(tokens):
            assert sum(actions(tokens, case)) == pytest.approx(case.outcome - start, abs=PRECISE)


def test_counts_go_before_scores_and_only_where_something_was_sampled() -> None:
    scores = np.array([np.nan, 0.4, np.nan])
    values = state_values(scores, some_counts([3, 0, 0], [4, 0, 8]))
    assert values.tolist() == [0.75, 0.4, 0.0]
    assert state_values(np.array([0.2, 0.3]), None).tolist() == [0.2, 0.3]


def test_monte_carlo_without_counts_is_the_difference_of_scores() -> None:
    batch = simple([1.0, 0.0], [[0.7, 0.9], [0.2]])
    first, second = monte_carlo(batch)
    assert first == pytest.approx([0.7 - 0.5, 0.9 - 0.7, 1 - 0.9])
    assert second == pytest.approx([0.2 - 0.5, 0 - 0.2])


def test_a_step_that_ends_the_rollout_ends_in_the_outcome() -> None:
    """Here its own continuations would have said 1/4; what happened afterwards is known, and counts."""
    cases = [Case(0, 1.0, [Step(0.5, 2, 4, 2, 0), Step(0.5, 1, 4, 1, 0)], 0, True), Case(0, 0.0, [], 1, False)]
    assert monte_carlo(batch_of(cases))[0] == pytest.approx([0.0, 0.0, 0.5])


def test_monte_carlo_scaled_has_unit_size_and_the_same_shape() -> None:
    batch = simple([1.0, 0.0], [[0.7, 0.9], [0.2]])
    raw, scaled = (np.concatenate(monte_carlo(batch, scaled=s)) for s in (False, True))
    assert np.sqrt(np.mean(scaled**2)) == pytest.approx(1, abs=1e-4)
    assert scaled / scaled[0] == pytest.approx(raw / raw[0])
    assert monte_carlo(ScoredBatch([], []), scaled=True) == []


@settings(max_examples=60)
@given(CASES)
def test_progress_pays_nothing_on_average_for_a_step_of_a_number(cases: list[Case]) -> None:
    """A step more, or less, is no better than a step as others write it, however scores drift along an answer."""
    batch = batch_of(cases)
    extra: dict[tuple[int, int], list[float]] = {}
    for i, (rollout, tokens) in enumerate(zip(batch.rollouts, progress(batch), strict=True)):
        for j, span in enumerate(rollout.steps):
            extra.setdefault((rollout.group, j), []).append(tokens[span.start] - plain_outcome(batch, i, 0))
    assert all(fmean(values) == pytest.approx(0, abs=PRECISE) for values in extra.values())


def test_scores_that_fall_along_every_answer_teach_no_shorter_answers() -> None:
    """An MPRM that is surer of first steps than of last ones, by as much in all answers."""
    steady = [[0.5, 0.5, 0.6], [0.5, 0.4, 0.4], [0.6, 0.5, 0.5]]
    falling = [[p - 0.2 * j for j, p in enumerate(row)] for row in steady]
    outcomes = [1.0, 0.0, 0.0]
    for one, other in zip(progress(simple(outcomes, steady)), progress(simple(outcomes, falling)), strict=True):
        assert one == pytest.approx(other)


def test_an_untrained_mprm_leaves_the_word_to_the_outcomes() -> None:
    rng = np.random.default_rng(0)
    outcomes, noise = [1.0, 0.0, 0.0, 1.0], [(0.5 + 1e-3 * rng.standard_normal(3)).tolist() for _ in range(4)]
    batch = simple(outcomes, noise)
    for tokens, base in zip(progress(batch), CREDIT_RULES["outcome"](batch), strict=True):
        assert tokens == pytest.approx(base, abs=0.02)
    agreed = simple([1.0] * 4, noise)  # where outcomes say nothing, what scores say counts as it does among themselves
    assert max(np.abs(tokens).max() for tokens in progress(agreed)) > 0.5


def test_trust_scales_the_steps_and_not_the_outcome() -> None:
    batch = simple([1.0, 0.0], [[0.5, 0.9], [0.7, 0.1]])
    base, whole, half = CREDIT_RULES["outcome"](batch), progress(batch), progress(batch, trust=0.5)
    for z, one, other in zip(base, whole, half, strict=True):
        assert other - z == pytest.approx((one - z) / 2)


def test_writing_a_step_twice_earns_nothing() -> None:
    """A copied step has the score of the step before it: its tokens get the outcome's advantage and no more."""
    tokens = progress(simple([1.0, 0.0], [[0.3, 0.8, 0.8], [0.5]]))[0]
    assert tokens[2] == pytest.approx(tokens[3])


def test_evidence_of_less_than_one_continuation_is_a_value_like_any_other() -> None:
    batch = simple([1.0, 0.0], [[0.5] * 3, [0.5] * 3])
    weighted = StepCounts(np.array([0.5] * 3), np.array([0.5] * 3), 0)
    right, wrong = monte_carlo(replace(batch, counts=[weighted, replace(weighted, correct=np.zeros(3))]))
    assert right.tolist() == [0.5, 0, 0, 0] and wrong.tolist() == [-0.5, 0, 0, 0]
