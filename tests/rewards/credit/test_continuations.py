"""Continuations as samples of a policy gradient: against the gradient itself, all outcomes enumerated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from rewards.credit.comparison import batch_normalised, group_centred, group_normalised, leave_one_out
from rewards.credit.continuations import comparison_scale, continuation_advantages

POLICY = np.array([0.2, 0.5, 0.3])
"""Chances of three continuations of one prefix, the softmax of three logits."""
RIGHT = np.array([0.9, 0.4, 0.1])
"""How often each of them is called right."""
GRADIENT = POLICY * (RIGHT - POLICY @ RIGHT)
"""Of the chance of a right answer, POLICY @ RIGHT, in the logits."""
Sample = tuple[int, int]
Stops = Callable[[Sequence[Sample]], bool]


def fixed(samples: Sequence[Sample]) -> bool:
    return len(samples) == 4


def first_success(samples: Sequence[Sample]) -> bool:
    """In chunks of one, one and two."""
    return len(samples) == 4 or (len(samples) in (1, 2) and any(right for _, right in samples))


def two_more_after_a_failure(samples: Sequence[Sample]) -> bool:
    """A triage, or a search for the first error, that leaves a prefix whose first sample is right."""
    return len(samples) == 3 or (len(samples) == 1 and samples[0][1] == 1)


def drawn(stops: Stops, before: tuple[Sample, ...] = (), chance: float = 1.0) -> Iterator[tuple[float, list[Sample]]]:
    """All that can be sampled, each with its probability."""
    if before and stops(before):
        yield chance, list(before)
        return
    for action in range(3):
        for right in (0, 1):
            judged = RIGHT[action] if right else 1 - RIGHT[action]
            yield from drawn(stops, (*before, (action, right)), chance * POLICY[action] * judged)


def expected(stops: Stops, stops_early: bool) -> tuple[np.ndarray, float]:
    """The mean of what is learned from a prefix, and of the number of samples."""
    score = np.eye(3) - POLICY  # the gradient of each action's log-probability
    learned, number = np.zeros(3), 0.0
    for outcome in (0.0, 1.0):
        by_itself = POLICY @ RIGHT if outcome else 1 - POLICY @ RIGHT
        for chance, samples in drawn(stops):
            actions, verdicts = zip(*samples, strict=True)
            gained = continuation_advantages(verdicts, outcome, stops_early)
            learned += by_itself * chance * gained @ score[list(actions)]
            number += by_itself * chance * len(samples)
    return learned, number


@pytest.mark.parametrize("stops", [fixed, first_success, two_more_after_a_failure])
def test_what_is_known_before_a_sample_is_drawn_makes_a_baseline_under_every_budget(stops: Stops) -> None:
    learned, number = expected(stops, stops_early=True)
    assert learned == pytest.approx(number * GRADIENT, abs=1e-12)


def test_the_mean_of_all_others_makes_one_where_their_number_is_fixed() -> None:
    learned, number = expected(fixed, stops_early=False)
    assert number == pytest.approx(4) and learned == pytest.approx(4 * GRADIENT, abs=1e-12)


def test_and_has_another_length_where_their_verdicts_decide_it() -> None:
    learned, number = expected(first_success, stops_early=False)
    length = learned @ GRADIENT / (GRADIENT @ GRADIENT)
    assert learned == pytest.approx(length * GRADIENT, abs=1e-12)
    assert abs(length / number - 1) > 0.02


def test_prefixes_without_continuations_give_none() -> None:
    for stops_early in (True, False):
        assert continuation_advantages([], 1.0, stops_early).shape == (0,)
        assert continuation_advantages([], None, stops_early).shape == (0,)


@pytest.mark.parametrize("stops_early", [True, False])
def test_a_rollout_that_was_cut_off_is_no_baseline(stops_early: bool) -> None:
    assert not continuation_advantages([1.0] * 4, None, stops_early).any(), "all are alike"
    assert continuation_advantages([1.0], None, stops_early).tolist() == [0.0], "there is nothing to compare it with"
    first, *others = continuation_advantages([1.0, 0.0, 1.0], None, stops_early).tolist()
    assert (first, others) == ((0.0, [-1.0, 0.5]) if stops_early else (0.5, [-1.0, 0.5]))


@pytest.mark.parametrize("stops_early", [True, False])
def test_what_always_comes_out_alike_teaches_nothing(stops_early: bool) -> None:
    for verdict in (0.0, 1.0):
        assert not continuation_advantages([verdict] * 5, verdict, stops_early).any()


def test_the_scale_is_that_of_the_comparison() -> None:
    rewards, groups = np.array([1.0, 0, 0, 0, 1, 1, 0, 0]), np.repeat([0, 1], 4)
    assert comparison_scale(group_centred, rewards, groups) == 1
    assert comparison_scale(leave_one_out, rewards, groups) == pytest.approx(4 / 3)
    assert 1.7 < comparison_scale(group_normalised, rewards, groups) < 2.0
    assert comparison_scale(group_normalised, np.ones(8), groups) == 1


@pytest.mark.parametrize("mixed", [1, 4, 16])
def test_the_scale_of_a_comparison_with_the_batch_is_that_of_a_difference(mixed: int) -> None:
    """However few groups are mixed, and however much the groups differ from one another."""
    alike = [np.full(4, float(number % 2)) for number in range(16 - mixed)]
    rewards, groups = np.concatenate([*[[1.0, 0.0, 1.0, 0.0]] * mixed, *alike]), np.repeat(np.arange(16), 4)
    one, other = batch_normalised(rewards, groups)[:2]
    assert comparison_scale(batch_normalised, rewards, groups) == pytest.approx(one - other)
