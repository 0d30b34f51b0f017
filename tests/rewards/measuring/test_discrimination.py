"""Step discrimination, against counting pairs."""

from __future__ import annotations

from math import isnan
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.measuring.discrimination import StepDiscrimination, step_discrimination

STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.5000001, 0.9]), st.booleans(), st.sampled_from("abc")), max_size=25
)


def won_pairs(steps: list[tuple[float, bool]]) -> float:
    """The chance that a right step scores above a wrong one, ties half: what the area under the curve is."""
    rights = [score for score, right in steps if right]
    wrongs = [score for score, right in steps if not right]
    if not rights or not wrongs:
        return float("nan")
    return fmean((a > b) + (a == b) / 2 for a in rights for b in wrongs)


@settings(max_examples=80)
@given(STEPS)
def test_areas_are_shares_of_won_pairs(steps: list[tuple[float, bool, str]]) -> None:
    found = step_discrimination(*([list(column) for column in zip(*steps, strict=True)] if steps else ([], [], [])))
    kinds = {kind: [(score, right) for score, right, k in steps if k == kind] for _, _, kind in steps}
    by_kind = {kind: won_pairs(members) for kind, members in kinds.items() if not isnan(won_pairs(members))}
    rates = {kind: fmean(right for _, right in members) for kind, members in kinds.items()}
    assert found.by_kind == pytest.approx(by_kind)
    assert found.within_kind == pytest.approx(fmean(by_kind.values()) if by_kind else float("nan"), nan_ok=True)
    assert found.plain == pytest.approx(won_pairs([(score, right) for score, right, _ in steps]), nan_ok=True)
    assert found.index_only == pytest.approx(won_pairs([(rates[k], right) for _, right, k in steps]), nan_ok=True)


def test_knowing_only_the_kind_is_worth_nothing_within_it() -> None:
    """Errors pile up late: a score that only counts steps looks good over all of them, and is chance within a kind."""
    kinds = [str(i) for i in range(4) for _ in range(10)]
    right = [j >= 2 * i + 1 for i in range(4) for j in range(10)]
    found = step_discrimination([1.0 - int(kind) / 4 for kind in kinds], right, kinds)
    assert found.within_kind == 0.5
    assert set(found.by_kind.values()) == {0.5}
    assert found.plain == found.index_only > 0.7


def test_kinds_count_equally_however_many_steps_they_have() -> None:
    scores, right = [0.1, 0.9] * 20 + [0.9, 0.1], [False, True] * 21
    found = step_discrimination(scores, right, ["often"] * 40 + ["rare"] * 2)
    assert found.by_kind == {"often": 1.0, "rare": 0.0}
    assert found.within_kind == 0.5
    assert found.plain > 0.9


def test_a_kind_weighs_what_its_errors_weigh() -> None:
    """Nine kinds that are nearly always right, and one in which every error counts."""
    rng = np.random.default_rng(0)
    kinds = np.repeat([str(kind) for kind in range(10)], 200)
    right = rng.random(2000) < np.where(kinds == "9", 0.5, 0.99)
    scores = np.where(kinds == "9", right + rng.normal(0, 0.5, 2000), rng.normal(0, 1, 2000))
    found = step_discrimination(scores, right, kinds)
    weights = [(~right[kinds == kind]).sum() for kind in found.by_kind]
    assert found.weighted == pytest.approx(np.average(list(found.by_kind.values()), weights=weights))
    assert found.weighted > 0.8 > 0.65 > found.within_kind


def test_the_standard_error_is_the_spread_over_draws() -> None:
    """Of prompts, whose steps go together: to take four like ones for four draws says half as much. One kind is told
    apart better than the other, so that a draw also decides what the two weigh."""

    def draw(seed: int, together: bool) -> StepDiscrimination:
        rng = np.random.default_rng(seed)
        right = rng.random(80) < 0.6
        kinds, prompts = np.tile(["a", "b"], 40), np.arange(80)
        scores = rng.normal(right * np.where(kinds == "a", 3.0, 0.0), 1.0)
        steps = [values.repeat(4) for values in (scores, right, kinds)]
        return step_discrimination(*steps, groups=prompts.repeat(4) if together else None)

    found = [draw(seed, together=True) for seed in range(300)]
    spread = np.std([area.weighted for area in found], ddof=1)
    error = np.mean([area.standard_error for area in found])
    assert error == pytest.approx(spread, rel=0.15)
    alone = np.mean([draw(seed, together=False).standard_error for seed in range(20)])
    assert alone == pytest.approx(error / 2, rel=0.1)


@pytest.mark.filterwarnings("error")
def test_one_class_has_no_area() -> None:
    for right in ([], [True, True], [False, False]):
        found = step_discrimination([0.3, 0.6][: len(right)], right, ["a", "b"][: len(right)])
        assert found.by_kind == {}
        assert all(isnan(value) for value in (found.weighted, found.standard_error, found.within_kind))
        assert isnan(found.plain) and isnan(found.index_only)
    # Both classes, but never in one kind: the kind explains everything.
    found = step_discrimination([0.3, 0.6], [True, False], ["a", "b"])
    assert isnan(found.within_kind)
    assert (found.plain, found.index_only) == (0.0, 1.0)
