"""Credit rules, against the formulas of their papers computed one rollout at a time."""

from __future__ import annotations

from statistics import fmean, pstdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.credit import CREDIT_RULES, outcome, progress
from rewards.records import Rollout
from tests.builders import a_rollout

pytestmark = pytest.mark.filterwarnings("error")  # a mean of nothing would warn

SCORES = st.lists(st.floats(0, 1), max_size=5)
ROLLOUTS = st.lists(st.tuples(st.integers(0, 2), st.booleans(), SCORES), min_size=1, max_size=10)


def plain_z(rollouts: list[Rollout], rollout: Rollout) -> float:
    """GRPO's advantage of one rollout, by the book: (r - mean) / standard deviation, 1e-4 against division by 0."""
    group = [other.outcome for other in rollouts if other.group == rollout.group]
    return (rollout.outcome - fmean(group)) / (pstdev(group) + 1e-4)


def made(cases: list[tuple[int, bool, list[float]]]) -> tuple[list[Rollout], list[np.ndarray]]:
    rollouts = [a_rollout([j + 1 for j in range(len(s))], outcome=float(r), group=g) for g, r, s in cases]
    return rollouts, [np.array(scores) for _, _, scores in cases]


@settings(max_examples=60, deadline=None)
@given(ROLLOUTS)
def test_outcome_is_grpo_on_every_token(cases: list[tuple[int, bool, list[float]]]) -> None:
    rollouts, scores = made(cases)
    for rollout, advantage in zip(rollouts, outcome(rollouts, scores), strict=True):
        assert advantage.shape == (len(rollout.token_ids),)
        assert advantage == pytest.approx(plain_z(rollouts, rollout), abs=1e-9)


def test_outcome_worked_by_hand() -> None:
    """Outcomes 1, 0, 0, 0: mean 1/4, standard deviation sqrt(3)/4."""
    rollouts = [a_rollout(outcome=r, group=9) for r in (1.0, 0.0, 0.0, 0.0)]
    advantages = [tokens[0] for tokens in outcome(rollouts, [np.zeros(2)] * 4)]
    assert advantages == pytest.approx([3**0.5, *[-1 / 3**0.5] * 3], rel=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_group_of_equal_outcomes_teaches_nothing(value: float) -> None:
    rollouts = [a_rollout(outcome=value, group=0), a_rollout(outcome=value, group=0), a_rollout(outcome=0.5, group=1)]
    assert all((tokens == 0).all() for tokens in outcome(rollouts, [np.zeros(2)] * 3))


def test_progress_worked_by_hand() -> None:
    """p_0 = (0.5 + 0.7) / 2 = 0.6; differences -0.1, 0.4 and 0.1, -0.6; their root mean square is sqrt(0.135)."""
    rollouts = [a_rollout([2, 1], outcome=1.0, tail=2), a_rollout([1, 2], outcome=0.0, tail=0)]
    first, second = progress(rollouts, [np.array([0.5, 0.9]), np.array([0.7, 0.1])])
    z, s = 0.5 / 0.5001, 0.135**0.5
    assert first == pytest.approx([z - 0.1 / s, z - 0.1 / s, z + 0.4 / s, z, z], abs=1e-5)
    assert second == pytest.approx([-z + 0.1 / s, -z - 0.6 / s, -z - 0.6 / s], abs=1e-5)


def test_trust_scales_the_steps_and_not_the_outcome() -> None:
    rollouts = [a_rollout([1, 1], outcome=1.0), a_rollout([1, 1], outcome=0.0)]
    scores = [np.array([0.5, 0.9]), np.array([0.7, 0.1])]
    base, whole, half = outcome(rollouts, scores), progress(rollouts, scores), progress(rollouts, scores, trust=0.5)
    for z, one, other in zip(base, whole, half, strict=True):
        assert other - z == pytest.approx((one - z) / 2)
    assert progress(rollouts, scores, trust=0.0)[0] == pytest.approx(base[0])


@settings(max_examples=60, deadline=None)
@given(ROLLOUTS)
def test_progress_telescopes_whatever_the_steps(cases: list[tuple[int, bool, list[float]]]) -> None:
    rollouts, scores = made(cases)
    gains, extra = [], []
    for rollout, values, tokens in zip(rollouts, scores, progress(rollouts, scores), strict=True):
        z = plain_z(rollouts, rollout)
        steps = [tokens[span.start : span.end] for span in rollout.steps]
        assert all(np.ptp(step) == 0 for step in steps)
        after = rollout.steps[-1].end if rollout.steps else 0
        assert tokens[after:] == pytest.approx(z, abs=1e-9)
        if len(values):
            peers = zip(rollouts, scores, strict=True)
            start = fmean(other[0] for peer, other in peers if peer.group == rollout.group and len(other))
            gains += [b - a for a, b in zip([start, *values], values, strict=False)]
            extra.append((sum(step[0] - z for step in steps), values[-1] - start))
    scale = fmean(gain**2 for gain in gains) ** 0.5 + 1e-6 if gains else 1.0
    for total, ends in extra:
        assert total * scale == pytest.approx(ends, abs=1e-8)


def test_writing_a_step_twice_earns_nothing() -> None:
    """A copied step has the score of the step before it: its tokens get the outcome's advantage and no more."""
    rollouts = [a_rollout([1, 1, 1], outcome=1.0), a_rollout([1], outcome=0.0)]
    tokens = progress(rollouts, [np.array([0.3, 0.8, 0.8]), np.array([0.5])])[0]
    assert tokens[2] == pytest.approx(tokens[3])


@pytest.mark.parametrize("rule", [outcome, progress])
def test_rollouts_without_steps_take_part_with_their_outcome(rule) -> None:
    rollouts = [a_rollout([], outcome=1.0, tail=3), a_rollout([], outcome=0.0, tail=0), a_rollout([2], outcome=0.0)]
    advantages = rule(rollouts, [np.zeros(0), np.zeros(0), np.array([0.4])])
    assert [len(tokens) for tokens in advantages] == [3, 0, 3]
    assert advantages[0] == pytest.approx(plain_z(rollouts, rollouts[0]))
    alone = rule(rollouts[:2], [np.zeros(0), np.zeros(0)])
    assert alone[0] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("rule", [outcome, progress])
def test_equal_scores_of_one_value_add_nothing(rule) -> None:
    rollouts = [a_rollout([1, 2], outcome=r) for r in (1.0, 0.0)]
    advantages = rule(rollouts, [np.array([0.5, 0.5])] * 2)
    assert advantages[0] == pytest.approx(1.0, abs=1e-3)
    assert advantages[1] == pytest.approx(-1.0, abs=1e-3)


@pytest.mark.parametrize("rule", [outcome, progress])
def test_groups_are_found_wherever_they_stand(rule) -> None:
    cases = [(0, True, [0.2, 0.9]), (1, False, [0.4]), (0, False, [0.8]), (1, True, []), (0, False, [0.1, 0.3, 0.2])]
    expected = rule(*made(cases))
    order = [3, 0, 4, 2, 1]
    shuffled = rule(*made([cases[i] for i in order]))
    for place, i in enumerate(order):
        assert shuffled[place] == pytest.approx(expected[i])


def test_credit_rules_are_found_by_their_names() -> None:
    assert {"outcome": outcome, "progress": progress} == CREDIT_RULES
    assert [rule([], []) for rule in CREDIT_RULES.values()] == [[], []]
