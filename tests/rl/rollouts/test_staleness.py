"""The staleness promise, kept in every order in which sampling, learning and sending weights can happen."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.rollouts.staleness import StalenessGate, check_versions_sent
from rl.workers.pending import Ready

EVENTS = st.lists(st.sampled_from(["ask", "learn", "send"]), max_size=80)


@given(st.integers(0, 5), EVENTS)
def test_the_promise_holds_whatever_happens_when(max_staleness: int, events: list[str]) -> None:
    """Engines sample with the weights last sent to them, which may be older than the learner's."""
    gate = StalenessGate(max_staleness)
    step = asked = engine_version = refused = 0
    waiting: deque[int] = deque()
    for event in events:
        if event == "ask" and asked <= gate.furthest(engine_version):
            waiting.append(engine_version)
            asked += 1
        elif event == "ask":
            refused += 1
            with pytest.raises(RuntimeError):  # it was right to refuse: these rollouts would have been too old
                gate.check(asked, engine_version)
        elif event == "learn" and waiting:
            age = gate.check(step, waiting.popleft())
            assert 0 <= age <= max_staleness
            step += 1
        elif event == "send":
            engine_version = step
        assert asked - engine_version <= max_staleness + 1  # no run-away either
    if not waiting:  # nothing under way, weights sent: the loop can always go on
        assert asked <= gate.furthest(step)


@pytest.mark.parametrize("max_staleness", [0, 1, 3])
def test_a_run_is_as_far_ahead_as_allowed_and_no_further(max_staleness: int) -> None:
    """Asking whenever allowed, ages grow to the limit and stay there: 0, 1, ..., limit, limit, ..."""
    gate = StalenessGate(max_staleness)
    waiting: deque[int] = deque()
    ages, asked = [], 0
    for step in range(8):
        while asked <= gate.furthest(step):
            waiting.append(step)
            asked += 1
        ages.append(gate.check(step, waiting.popleft()))
    assert ages == [min(step, max_staleness) for step in range(8)]


@pytest.mark.parametrize("age", range(-2, 5))
def test_check_tells_the_age_or_stops(age: int) -> None:
    gate, step = StalenessGate(2), 10
    if 0 <= age <= 2:
        assert gate.check(step, step - age) == age
        return
    with pytest.raises(RuntimeError) as caught:
        gate.check(step, step - age)
    assert "step 10" in str(caught.value)
    assert f"version {step - age}" in str(caught.value)
    assert "0 to 2" in str(caught.value)


@given(st.integers(0, 5), st.integers(0, 9))
def test_the_furthest_step_is_the_last_that_may_be_sampled_for(max_staleness: int, version: int) -> None:
    gate = StalenessGate(max_staleness)
    last = gate.furthest(version)
    assert gate.check(last, version) == max_staleness
    with pytest.raises(RuntimeError, match="allowed is"):
        gate.check(last + 1, version)


def test_an_engine_with_other_weights_than_it_was_sent_is_named() -> None:
    check_versions_sent([Ready(4), Ready(4)], 4)
    check_versions_sent([], 4)
    with pytest.raises(RuntimeError, match="engine 1 was sent policy version 4, and reports version 3"):
        check_versions_sent([Ready(4), Ready(3)], 4)


def test_no_one_can_promise_less_than_nothing() -> None:
    with pytest.raises(ValueError, match="max_staleness is -1"):
        StalenessGate(-1)
