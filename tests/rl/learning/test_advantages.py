"""Generalized advantage estimation against closed forms and the plain recursion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.learning.advantages import explained_variance, generalized_advantages, whitened

NUMBERS = st.floats(-5, 5)
TOKENS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30)
SHARES = st.floats(0, 1)


def by_definition(rewards: list[float], values: list[float], discount: float, gae_lambda: float) -> list[float]:
    """The sum that the recursion stands for: A_t = sum over l of (gamma lambda)^l delta_{t+l}."""
    ahead = [*values, 0.0][1:]
    surprises = [r + discount * after - v for r, after, v in zip(rewards, ahead, values, strict=True)]
    return [
        sum((discount * gae_lambda) ** later * surprise for later, surprise in enumerate(surprises[t:]))
        for t in range(len(rewards))
    ]


def discounted(rewards: np.ndarray, discount: float) -> np.ndarray:
    """The return of each token: what it and all later ones earn."""
    return np.array([sum(discount**i * r for i, r in enumerate(rewards[t:])) for t in range(len(rewards))])


@given(TOKENS, SHARES, SHARES)
def test_it_is_the_sum_of_discounted_surprises(tokens: list[tuple[float, float]], gamma: float, lam: float) -> None:
    rewards, values = [r for r, _ in tokens], [v for _, v in tokens]
    found = generalized_advantages(np.array(rewards), np.array(values), gamma, lam)
    assert found == pytest.approx(np.array(by_definition(rewards, values, gamma, lam)), abs=1e-9)


@given(TOKENS, SHARES)
def test_lambda_1_is_the_return_less_the_value(tokens: list[tuple[float, float]], gamma: float) -> None:
    rewards, values = np.array([r for r, _ in tokens]), np.array([v for _, v in tokens])
    found = generalized_advantages(rewards, values, gamma, 1.0)
    assert found == pytest.approx(discounted(rewards, gamma) - values, abs=1e-9)


def test_lambda_0_is_one_step_of_surprise() -> None:
    rewards, values = np.array([0.1, -0.4, 1.0]), np.array([0.3, 0.2, 0.7])
    found = generalized_advantages(rewards, values, 0.9, 0.0)
    assert found == pytest.approx([0.1 + 0.9 * 0.2 - 0.3, -0.4 + 0.9 * 0.7 - 0.2, 1.0 - 0.7])


@given(SHARES, SHARES)
def test_true_values_leave_no_advantage(gamma: float, lam: float) -> None:
    """A known fixed point: where every value is the return, no token is better than expected, whatever lambda is."""
    rewards = np.array([0.0, 0.5, -0.25, 0.0, 1.0])
    found = generalized_advantages(rewards, discounted(rewards, gamma), gamma, lam)
    assert found == pytest.approx(np.zeros(5), abs=1e-12)


def test_values_that_learn_their_returns_come_to_the_true_ones() -> None:
    """The lambda-return as target, again and again, ends at the discounted return (tabular TD(lambda))."""
    rewards, values = np.array([0.0, 0.0, 0.5, 0.0, 1.0]), np.zeros(5)
    for _ in range(60):
        values = values + 0.5 * generalized_advantages(rewards, values, 0.9, 0.8)
    assert values == pytest.approx(discounted(rewards, 0.9), abs=1e-6)


@given(TOKENS)
def test_potentials_telescope(tokens: list[tuple[float, float]]) -> None:
    """Rewards that are differences of a potential add up to its last less its first, and to nothing where the value
    is what is left of it."""
    potential = np.array([0.0, *(v for _, v in tokens)])
    rewards = np.diff(potential)
    left = potential[-1] - potential[:-1]
    assert generalized_advantages(rewards, np.zeros(len(rewards)), 1.0, 1.0) == pytest.approx(left, abs=1e-9)
    assert generalized_advantages(rewards, left, 1.0, 0.95) == pytest.approx(np.zeros(len(rewards)), abs=1e-9)


def test_a_discount_shortens_what_is_foreseen() -> None:
    rewards = np.array([0.0, 0.0, 0.0, 1.0])
    assert generalized_advantages(rewards, np.zeros(4), 0.5, 1.0) == pytest.approx([0.125, 0.25, 0.5, 1.0])


def test_an_empty_answer_has_no_advantages() -> None:
    assert generalized_advantages(np.zeros(0), np.zeros(0)).shape == (0,)
    assert whitened([np.zeros(0)])[0].shape == (0,)


def test_values_of_other_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rewards \(3,\) and values \(2,\)"):
        generalized_advantages(np.zeros(3), np.zeros(2))


@given(st.lists(st.lists(NUMBERS, max_size=6), min_size=1, max_size=5), NUMBERS, st.floats(0.5, 3))
def test_whitening_undoes_scale_and_shift(rows: list[list[float]], shift: float, scale: float) -> None:
    advantages = [np.round(np.array(row, dtype=float), 3) for row in rows]
    found = np.concatenate(whitened(advantages))
    moved = np.concatenate(whitened([row * scale + shift for row in advantages]))
    assert [len(row) for row in whitened(advantages)] == [len(row) for row in advantages]
    assert found == pytest.approx(moved, abs=1e-6)
    if len({value for row in advantages for value in row.tolist()}) > 1:
        assert (found.mean(), found.std()) == pytest.approx((0.0, 1.0), abs=1e-9)
    else:
        assert not found.any()


def test_explained_variance_of_known_values() -> None:
    returns = [np.array([1.0, 2.0]), np.array([4.0])]
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance([np.zeros(2), np.zeros(1)], returns) == pytest.approx(0.0)
    assert explained_variance([-returns[0], -returns[1]], returns) == pytest.approx(-3.0)
    assert np.isnan(explained_variance([np.array([1.0, 2.0])], [np.ones(2)]))
