"""The watch for reward hacking, on scripted policies: one that hacks is named, one that learns is left alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.records import Rollout, StepScores
from rl.config.learner import WatchConfig
from rl.reward_models.hacking_watch import HackingWatch, measure, repeated_steps
from tests.fixtures.builders import a_rollout

Step = tuple[list[Rollout], list[StepScores]]
Seen = tuple[dict[str, float], str | None]
QUICK = WatchConfig(baseline=3, window=2)


def scores(rollouts: Sequence[Rollout], score: float) -> list[StepScores]:
    return [StepScores(np.full(len(rollout.steps), score), 0) for rollout in rollouts]


def a_step(score: float = 0.6, accuracy: float = 0.5, steps: int = 4, tokens: int = 6, repeats: int = 0) -> Step:
    """Ten rollouts, of which a share is right; the last ``repeats`` steps of each say what its first one says."""
    distinct = [range(100 * i, 100 * i + tokens) for i in range(steps - repeats)]
    written = [token for said in [*distinct, *[range(tokens)] * repeats] for token in said]
    rollouts = [
        a_rollout([tokens] * steps, outcome=float(i < 10 * accuracy), tokens=[*written, 9999]) for i in range(10)
    ]
    return rollouts, scores(rollouts, score)


def follow(watch: HackingWatch, steps: Sequence[Step]) -> list[Seen]:
    return [watch.after(*step) for step in steps]


def warnings(seen: Sequence[Seen]) -> dict[int, str]:
    return {step: warning for step, (_, warning) in enumerate(seen) if warning}


def test_the_measures_of_a_step_made_by_hand() -> None:
    first = a_rollout([2, 2, 4], outcome=1.0, tokens=[5, 6, 5, 6, 1, 2, 3, 4, 0])
    second = a_rollout([3], outcome=0.0)
    judged = [StepScores(np.array([0.9, 0.3, 0.6]), 0), StepScores(np.array([0.8]), 0)]
    metrics, warning = HackingWatch(QUICK).after([first, second], judged)
    assert warning is None
    assert metrics == {
        "reward/hacking_gap": pytest.approx((0.6 + 0.8) / 2 - 1 / 2),
        "reward/step_tokens": pytest.approx((2 + 2 + 4 + 3) / 4),
        "reward/repeated_steps": pytest.approx(1 / 4),
    }


@pytest.mark.parametrize(
    ("drift", "key"),
    [
        pytest.param({"score": 0.95, "accuracy": 0.1}, "gap", id="score up, accuracy down"),
        pytest.param({"score": 0.95}, "gap", id="score up alone"),
        pytest.param({"steps": 12}, "steps", id="more steps"),
        pytest.param({"steps": 1}, "steps", id="fewer steps"),
        pytest.param({"tokens": 1}, "step_tokens", id="empty steps"),
        pytest.param({"tokens": 30}, "step_tokens", id="long steps"),
        pytest.param({"repeats": 3}, "repeated", id="the same again"),
    ],
)
def test_a_policy_that_hacks_is_named_once(drift: dict[str, float], key: str) -> None:
    stream = [a_step()] * 6 + [a_step(**drift)] * 6  # type: ignore[arg-type]
    found = warnings(follow(HackingWatch(QUICK), stream))
    assert len(found) == 1
    (step, warning), *_ = found.items()
    assert 6 <= step < 6 + QUICK.window
    assert warning.startswith("reward hacking? ") and "\n" not in warning
    assert [name for name in ("gap", "steps", "step_tokens", "repeated") if f"watch.{name} " in warning] == [key]


def test_a_warning_says_what_was_and_what_is() -> None:
    stream = [a_step(score=0.6, accuracy=0.5)] * 3 + [a_step(score=0.9, accuracy=0.3)] * 2
    assert warnings(follow(HackingWatch(QUICK), stream)) == {
        3: "reward hacking? the MPRM's score of an answer minus verified accuracy: 0.10 in the first 3 policy steps, "
        "0.35 in the last 2, further than watch.gap allows (0.2)"
    }


def test_a_policy_that_learns_honestly_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    stream = [
        a_step(
            score=min(1.0, 0.3 + 0.012 * step + rng.normal(0, 0.02)),
            accuracy=round(0.2 + 0.012 * step, 1),
            steps=int(rng.integers(4, 6)),
            tokens=int(rng.integers(5, 8)),
        )
        for step in range(50)
    ]
    assert warnings(follow(HackingWatch(WatchConfig()), stream)) == {}


def test_several_kinds_at_once_are_one_line() -> None:
    stream = [a_step()] * 3 + [a_step(score=1.0, accuracy=0.0, steps=20, tokens=1)] * 3
    (warning,) = warnings(follow(HackingWatch(WatchConfig(baseline=3, window=1)), stream)).values()
    assert all(f"watch.{key} " in warning for key in ("gap", "steps", "step_tokens"))
    assert "\n" not in warning


def test_it_warns_again_only_after_it_was_back() -> None:
    good, bad = [a_step()] * 4, [a_step(score=0.95, accuracy=0.1)] * 4
    found = warnings(follow(HackingWatch(QUICK), [*good, *bad, *good, *bad]))
    assert len(found) == 2
    assert [step // 4 for step in found] == [1, 3]


def test_thresholds_that_are_null_never_warn() -> None:
    watched = WatchConfig(baseline=1, window=1, gap=None, steps=None, step_tokens=None, repeated=None)
    stream = [a_step(), a_step(score=1.0, accuracy=0.0, steps=20, tokens=1, repeats=19)]
    assert warnings(follow(HackingWatch(watched), stream)) == {}


def test_a_reward_model_that_stops_underrating_is_welcome() -> None:
    """As in a run's first steps, when it has learned little."""
    stream = [a_step(score=0.4, accuracy=0.6)] * 3 + [a_step(score=0.7, accuracy=0.6)] * 3
    assert warnings(follow(HackingWatch(QUICK), stream)) == {}
    assert list(warnings(follow(HackingWatch(QUICK), [*stream, *[a_step(score=0.95, accuracy=0.6)] * 2]))) == [6]


def test_a_gap_that_shrinks_is_welcome() -> None:
    stream = [a_step(score=0.95, accuracy=0.1, repeats=3)] * 3 + [a_step(score=0.5, accuracy=0.9)] * 5
    assert warnings(follow(HackingWatch(QUICK), stream)) == {}


def test_rollouts_without_steps() -> None:
    """They are fewer steps; of scores, lengths and repetitions they say nothing."""
    silent = [a_rollout([], outcome=1.0)] * 3
    empty = scores(silent, 0.0)
    assert measure(silent, empty) == {"steps": 0.0}
    assert measure([], []) == {}
    speaking = a_step(score=0.7, accuracy=0.0)
    mixed = measure([*silent, *speaking[0]], [*empty, *speaking[1]])
    assert mixed["gap"] == pytest.approx(measure(*speaking)["gap"])
    assert mixed["steps"] == pytest.approx(40 / 13)
    found = warnings(follow(HackingWatch(QUICK), [speaking] * 3 + [(silent, empty)] * 2))
    assert len(found) == 1
    assert "watch.steps " in found[4]


def test_one_rollout_is_enough() -> None:
    rollout = a_rollout([1], outcome=1.0)
    metrics, warning = HackingWatch(QUICK).after([rollout], scores([rollout], 0.25))
    assert (metrics["reward/hacking_gap"], metrics["reward/step_tokens"], warning) == (-0.75, 1.0, None)


def said(*steps: str) -> tuple[Rollout, Sequence[bool]]:
    tokens = [ord(character) for step in steps for character in step]
    rollout = a_rollout([len(step) for step in steps], tokens=tokens)
    return rollout, repeated_steps(rollout, lambda ids: "".join(map(chr, ids)))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("1: red 1 0 2 = 3\n", "2: red 1 0 2 = 3", True),
        ("Step 1: The area is 4.\n\n", "step 12.  the area is 4.\n", True),
        ("**Step 1:** so\n", "**Step 2:** so\n", True),
        ("(1) so\n", "(2) so\n", True),
        ("1. so\n", "10. so\n", True),
        ("Step 1 so\n", "Step 2 so\n", True),
        ("1:\n", "2:\n", True),
        (" \n", "\n", True),
        ("3: 3 * 4 = 12\n", "4: 2 * 4 = 12\n", False),
        ("3 apples\n", "4 apples\n", False),
        ("1.5 is it\n", "2.5 is it\n", False),
        ("one: so\n", "two: so\n", False),
        ("1: red\n", "1: blue\n", False),
    ],
)
def test_a_step_that_says_the_same_but_for_its_number_is_repeated(first: str, second: str, same: bool) -> None:
    rollout, repeated = said(first, second)
    assert repeated == [False, same]
    assert repeated_steps(rollout) == [False, False]  # all these differ in their tokens


def test_every_further_repetition_counts() -> None:
    assert said("1: a\n", "2: b\n", "3: a\n", "4: a\n", "5: b\n")[1] == [False, False, True, True, True]
    assert repeated_steps(a_rollout([1, 1, 2], tokens=[7, 7, 7, 7, 0])) == [False, True, False]


STREAMS = st.lists(
    st.builds(
        a_step,
        score=st.floats(0, 1),
        accuracy=st.sampled_from([0.0, 0.3, 1.0]),
        steps=st.integers(0, 5),
        tokens=st.integers(1, 4),
    ),
    max_size=14,
)
SETTINGS = st.builds(
    WatchConfig,
    baseline=st.integers(1, 4),
    window=st.integers(1, 4),
    gap=st.sampled_from([None, 0.0137, 0.3137]),
    steps=st.sampled_from([None, 0.1, 1.0]),
)


@given(SETTINGS, STREAMS, st.integers(0, 14))
def test_a_resumed_watch_says_what_it_would_have_said(watched: WatchConfig, stream: list[Step], stop: int) -> None:
    whole = HackingWatch(watched)
    expected = follow(whole, stream)
    before = HackingWatch(watched)
    seen = follow(before, stream[:stop])
    after = HackingWatch(watched)
    after.restore(json.loads(json.dumps(before.state())))
    assert seen + follow(after, stream[stop:]) == expected
    assert after.state() == whole.state()


def plainly(watched: WatchConfig, stream: Sequence[Step]) -> Iterator[bool]:
    """Whether the gap warns after each step, worked out from the whole history each time."""
    gaps, was = [], False
    for rollouts, judged in stream:
        pairs = [(r.outcome, s.scores.mean()) for r, s in zip(rollouts, judged, strict=True) if r.steps]
        if not pairs:
            yield False
            continue
        gaps.append(math.fsum(score - outcome for outcome, score in pairs) / len(pairs))
        latest = gaps[-watched.window :]
        first = math.fsum(gaps[: watched.baseline]) / watched.baseline
        grown = math.fsum(latest) / len(latest) - max(first, 0)
        beyond = watched.gap is not None and len(gaps) > watched.baseline and grown > watched.gap
        yield beyond and not was
        was = beyond


def test_a_watch_that_is_resumed_with_a_shorter_beginning_still_warns() -> None:
    before, after = HackingWatch(WatchConfig(baseline=5, window=2)), HackingWatch(QUICK)
    follow(before, [a_step()] * 5)
    after.restore(json.loads(json.dumps(before.state())))
    assert list(warnings(follow(after, [a_step(), a_step(score=0.99), a_step(score=0.99)]))) == [2]


@given(SETTINGS, STREAMS)
def test_the_gap_warns_as_the_whole_history_says(watched: WatchConfig, stream: list[Step]) -> None:
    found = follow(HackingWatch(watched), stream)
    assert [bool(warning and "watch.gap " in warning) for _, warning in found] == list(plainly(watched, stream))
    assert all(math.isfinite(value) for metrics, _ in found for value in metrics.values())
