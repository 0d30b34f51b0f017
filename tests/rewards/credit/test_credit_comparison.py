"""Comparisons of rewards, against their formulas one rollout at a time, and against TRL's own tensors."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.credit.comparison import (
    COMPARISONS,
    Comparison,
    batch_normalised,
    group_centred,
    group_centred_batch_normalised,
    group_centred_batch_scaled,
    group_normalised,
    leave_one_out,
    make_comparison,
    uncompared,
)

pytestmark = pytest.mark.filterwarnings("error")  # a mean of nothing would warn

REWARDS = st.lists(st.tuples(st.floats(-2, 2, width=32), st.integers(0, 3)), max_size=12)
ALL = [comparison for by_scale in COMPARISONS.values() for comparison in by_scale.values()]
WITHIN_GROUPS = [group_centred, group_normalised, leave_one_out]


def plain_deviation(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def plain(comparison: Comparison, rewards: list[float], groups: list[int], i: int) -> float:
    """One rollout's advantage, by the book."""
    peers = [r for r, g in zip(rewards, groups, strict=True) if g == groups[i]]
    others = [r for j, (r, g) in enumerate(zip(rewards, groups, strict=True)) if g == groups[i] and j != i]
    centred = [
        r - fmean([q for q, h in zip(rewards, groups, strict=True) if h == g])
        for r, g in zip(rewards, groups, strict=True)
    ]
    formulas: dict[Comparison, Callable[[], float]] = {
        uncompared: lambda: rewards[i],
        group_centred: lambda: rewards[i] - fmean(peers),
        group_normalised: lambda: (rewards[i] - fmean(peers)) / (plain_deviation(peers) + 1e-4),
        group_centred_batch_scaled: lambda: (rewards[i] - fmean(peers)) / (plain_deviation(rewards) + 1e-4),
        leave_one_out: lambda: rewards[i] - fmean(others) if others else 0.0,
        batch_normalised: lambda: (rewards[i] - fmean(rewards)) / (plain_deviation(rewards) + 1e-4),
        group_centred_batch_normalised: lambda: centred[i] / (plain_deviation(centred) + 1e-4),
    }
    return formulas[comparison]()


@pytest.mark.parametrize("comparison", ALL)
@settings(max_examples=60)
@given(REWARDS)
def test_comparisons_are_their_formulas(comparison: Comparison, pairs: list[tuple[float, int]]) -> None:
    rewards, groups = [r for r, _ in pairs], [g for _, g in pairs]
    found = comparison(np.array(rewards, dtype=float), np.array(groups, dtype=int))
    assert found.shape == (len(pairs),)
    for i, value in enumerate(found):
        assert value == pytest.approx(plain(comparison, rewards, groups, i), abs=1e-8)


def trl_rows(kind: str, rewards: torch.Tensor, samples: int) -> torch.Tensor:
    """What TRL's GRPO and RLOO trainers do with the rewards (prompts x samples) of one batch, with TRL's deviation."""
    from trl.trainer.utils import nanstd

    grouped = rewards.view(-1, samples)
    if kind == "rloo":
        return (grouped - (grouped.sum(1, keepdim=True) - grouped) / (samples - 1)).flatten()
    centred = (grouped - torch.nanmean(grouped, dim=1, keepdim=True)).flatten()
    if kind == "group":
        return centred / (nanstd(grouped, dim=1).repeat_interleave(samples) + 1e-4)
    return centred / (nanstd(rewards) + 1e-4) if kind == "batch" else centred


@pytest.mark.parametrize("kind", ["group", "batch", "none", "rloo"])
def test_grpo_and_rloo_are_those_of_trl(kind: str) -> None:
    rewards = torch.rand(5 * 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rewards[:8] = 1.0  # a group of equal rewards
    comparison = make_comparison("rloo" if kind == "rloo" else "grpo", "group" if kind == "rloo" else kind)
    found = comparison(rewards.numpy(), np.repeat(np.arange(5), 8))
    assert found == pytest.approx(trl_rows(kind, rewards, 8).numpy(), abs=1e-6)  # its n / (n - 1) is in float32


@settings(max_examples=60)
@given(REWARDS)
def test_within_a_group_advantages_sum_to_nothing(pairs: list[tuple[float, int]]) -> None:
    rewards, groups = np.array([r for r, _ in pairs]), np.array([g for _, g in pairs], dtype=int)
    for comparison in WITHIN_GROUPS:
        found = comparison(rewards, groups)
        for group in set(groups.tolist()):
            assert found[groups == group].sum() == pytest.approx(
                0, abs=1e-8 if comparison is group_normalised else 1e-12
            )


@settings(max_examples=60)
@given(REWARDS, st.floats(-3, 3), st.floats(0.5, 4))
def test_reinforce_pp_forgets_shift_and_scale(pairs: list[tuple[float, int]], shift: float, scale: float) -> None:
    rewards, groups = np.array([r for r, _ in pairs]), np.array([g for _, g in pairs], dtype=int)
    if len(rewards) < 2 or rewards.std() < 0.1:
        return
    found = batch_normalised(rewards * scale + shift, groups)
    assert found == pytest.approx(batch_normalised(rewards, groups), rel=2e-3, abs=1e-9)
    assert found.std(ddof=1) == pytest.approx(1, rel=2e-3)


def test_groups_may_be_of_different_sizes_and_anywhere() -> None:
    rewards, groups = np.array([1.0, 5.0, 0.0, 3.0, 0.0]), np.array([9, -4, 9, -4, 9])
    assert leave_one_out(rewards, groups).tolist() == [1.0, 2.0, -0.5, -2.0, -0.5]


@pytest.mark.parametrize("comparison", ALL)
def test_large_and_equal_rewards_stay_finite(comparison: Comparison) -> None:
    groups = np.array([0, 0, 1, 2, 2])
    assert np.isfinite(comparison(np.array([1e12, -1e12, 1e12, 1e12, 1e12]), groups)).all()
    assert np.abs(comparison(np.full(5, 0.1), groups) - (0.1 if comparison is uncompared else 0)).max() < 1e-9


def test_names_and_scales() -> None:
    assert make_comparison("grpo") is make_comparison("grpo", "group") is group_normalised
    assert make_comparison("rloo", "batch") is leave_one_out
    assert make_comparison("ppo", "none") is uncompared
    with pytest.raises(ValueError, match=r"algorithm is 'grppo': allowed is one of grpo, rloo, .*ppo"):
        make_comparison("grppo")
    with pytest.raises(ValueError, match=r"scale is 'groups': allowed is one of group, batch, none"):
        make_comparison("grpo", "groups")
