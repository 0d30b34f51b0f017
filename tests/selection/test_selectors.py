"""Every built-in selector against its formula written out, one rollout at a time."""

from __future__ import annotations

from dataclasses import replace
from math import isnan, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.users_code import UsersCodeError
from selection.candidates import Candidates
from selection.config import SelectionConfig
from selection.selectors import (
    NEED_COMPLEXITY,
    NEED_STEP_SCORES,
    SELECTORS,
    apply_selector,
    make_selector,
)
from tests.fixtures.own_selector import failing, misshapen

STEP = st.integers(0, 16).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n), st.floats(0, 1)))
ROLLOUTS = st.lists(st.lists(STEP, min_size=1, max_size=6), min_size=1, max_size=8)


def candidates(rollouts: list[list[tuple[int, int, float]]], entropy: float = 0.5) -> Candidates:
    flat = np.array([step for steps in rollouts for step in steps], dtype=float)
    return Candidates(
        np.array([len(steps) for steps in rollouts]),
        flat[:, 0],
        flat[:, 1],
        flat[:, 2],
        np.full(len(rollouts), entropy),
        np.random.default_rng(0),
    )


def plain(name: str, steps: list[tuple[int, int, float]]) -> float:
    """One rollout, straight from the docstring of the selector."""
    labelled = [(k / n, min(max(score, 1e-6), 1 - 1e-6)) for k, n, score in steps if n]
    s = [rate for rate, _ in labelled]
    p = sum(rate > 0 for rate in s) / len(s)
    positive = [rate for rate in s if rate > 0]
    r = sum(positive) / len(positive) if positive else 1.0
    values = {
        "bis": (p * (1 - p) + 0.1) * r,
        "bis_visual": (p * (1 - p) + 0.1) * r * (1 + 2 * 0.5),
        "mixed": p * (1 - p),
        "reliable": r,
        "low_mc": 1 - sum(s) / len(s),
        "hard": sum(-log(q) if rate > 0 else -log(1 - q) for rate, q in labelled) / len(s),
        "uncertain": sum(-q * log(q) - (1 - q) * log(1 - q) for _, q in labelled) / len(s),
    }
    return values[name]


@settings(max_examples=60)
@given(ROLLOUTS, st.sampled_from(["bis", "bis_visual", "mixed", "reliable", "low_mc", "hard", "uncertain"]))
def test_a_selector_is_its_formula(rollouts: list[list[tuple[int, int, float]]], name: str) -> None:
    found = make_selector(name, SelectionConfig(alpha=0.1, visual_weight=2))(candidates(rollouts))
    for score, steps in zip(found, rollouts, strict=True):
        if any(n for _, n, _ in steps):
            assert score == pytest.approx(plain(name, steps), abs=1e-9)
        else:
            assert isnan(score)


@settings(max_examples=30)
@given(ROLLOUTS, st.sampled_from(sorted(SELECTORS)))
def test_every_selector_is_blind_to_missing_steps(rollouts: list[list[tuple[int, int, float]]], name: str) -> None:
    """A missing step, whatever the MPRM says of it, is as if it had not been written."""
    with_missing = [[*steps, (0, 0, 0.9)] for steps in rollouts]
    selector = make_selector(name, SelectionConfig())
    np.testing.assert_allclose(selector(candidates(with_missing)), selector(candidates(rollouts)), atol=1e-12)


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_neighbours_change_nothing_and_scores_are_no_less_than_zero(name: str) -> None:
    rollouts = [[(3, 8, 0.2), (0, 8, 0.7)], [(0, 0, 0.1)], [(0, 4, 0.0), (0, 4, 1.0)], [(8, 8, 1.0)]]
    selector = make_selector(name, SelectionConfig())
    together = selector(candidates(rollouts))
    assert np.isnan(together[1]) and (np.delete(together, 1) >= 0).all()
    if name != "random":
        alone = [selector(candidates([steps]))[0] for steps in rollouts]
        np.testing.assert_allclose(together, alone)


def test_bis_visual_without_weight_is_bis_and_with_it_prefers_the_fuller_picture() -> None:
    pair = replace(candidates([[(4, 8, 0.5), (0, 8, 0.5)]] * 2), complexity=np.array([0.2, 0.8]))
    bis = make_selector("bis", SelectionConfig())(pair)
    np.testing.assert_array_equal(make_selector("bis_visual", SelectionConfig(visual_weight=0))(pair), bis)
    plainer, fuller = make_selector("bis_visual", SelectionConfig(visual_weight=1))(pair)
    assert (plainer, fuller) == (pytest.approx(1.2 * bis[0]), pytest.approx(1.8 * bis[1]))


def test_hard_mining_stays_finite_where_the_mprm_is_sure_and_wrong() -> None:
    assert np.isfinite(make_selector("hard", SelectionConfig())(candidates([[(8, 8, 0.0), (0, 8, 1.0)]]))).all()


def test_random_follows_its_generator() -> None:
    rollouts = [[(1, 8, 0.5)]] * 4
    selector = make_selector("random", SelectionConfig())
    first, again = selector(candidates(rollouts)), selector(candidates(rollouts))
    assert first.tolist() == again.tolist() and len(set(first)) == 4


@pytest.mark.parametrize("name", sorted(NEED_STEP_SCORES | NEED_COMPLEXITY))
def test_what_a_selector_needs_is_said_when_it_is_not_there(name: str) -> None:
    bare = replace(candidates([[(1, 8, 0.5)]]), step_scores=None, complexity=None)
    with pytest.raises(ValueError, match=f"{name} needs the"):
        make_selector(name, SelectionConfig())(bare)


def test_an_unknown_selector() -> None:
    with pytest.raises(KeyError):
        make_selector("best", SelectionConfig())


def test_a_users_selector_that_fails_is_told_in_one_line() -> None:
    batch = candidates([[(1, 8, 0.5)]])
    with pytest.raises(UsersCodeError, match=r"^mine failed: RuntimeError: no idea what is informative$"):
        apply_selector("mine", failing, batch)
    with pytest.raises(UsersCodeError, match=r"^mine gave scores of shape \(2,\) for 1 rollouts; allowed is"):
        apply_selector("mine", misshapen, batch)
    with pytest.raises(UsersCodeError, match=r"^mine failed: ValueError"):
        apply_selector("mine", lambda batch: ["high"], batch)  # type: ignore[arg-type, return-value]


def test_what_a_users_selector_does_to_its_batch_changes_nothing() -> None:
    def changes(batch: Candidates) -> np.ndarray:
        batch.sampled[:] = 0
        return batch.correct

    batch = candidates([[(1, 8, 0.5)]])
    assert apply_selector("mine", changes, batch).tolist() == [1] and batch.sampled.tolist() == [8]
