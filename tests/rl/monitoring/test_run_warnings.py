"""What a hopeless run says, when, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from rewards.records import Annotated
from rl.config import Config
from rl.config.learner import WatchConfig
from rl.monitoring.report import StepReport
from rl.monitoring.run_warnings import RunWarnings
from tests.fixtures.builders import a_prompt, a_report, a_rollout, an_offer, some_counts, some_labels

MIXED = ((1.0, 0.0), (0.0, 0.0))
NONE_RIGHT, NONE_MIXED, ALL_RIGHT = ((0.0, 0.0), (0.0, 0.0)), ((1.0, 1.0), (0.0, 0.0)), ((1.0, 1.0), (1.0, 1.0))


def a_step(
    outcomes: Sequence[Sequence[float]] = MIXED, correct: Sequence[int] = (3, 0), kept: int = 1, entropy: float = 0.5
) -> StepReport:
    """Groups of rollouts with these outcomes, the two steps of one of them with so many continuations that were right,
    of 4, and the buffer with that one in it, or without."""
    rollouts = [a_rollout(outcome=outcome, group=group) for group, of in enumerate(outcomes) for outcome in of]
    annotated = [Annotated(a_prompt(), rollouts[0], some_counts(correct, 4))]
    report = a_report([], [], [])
    batch = replace(report.batch, rollouts=rollouts)
    return replace(
        report,
        batch=batch,
        labels=some_labels(batch, [], [0], annotated),
        offer=an_offer(annotated, annotated[:kept]),
        said=replace(report.said, policy={"entropy": entropy}),
    )


def said(config: Config, *steps: StepReport) -> list[list[str]]:
    warnings = RunWarnings(config)
    return [warnings.after(step) for step in steps]


def a_config(after: int = 3, **named: object) -> Config:
    return Config.model_validate({"watch": WatchConfig(hopeless_after=after), **named})


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (a_step(NONE_RIGHT), "no answer is right (12 answers in the last 3 policy steps): GRPO learns nothing"),
        (a_step(NONE_MIXED), "none of 6 groups has right and wrong answers"),
        (a_step(ALL_RIGHT), "every answer is right"),
        (a_step(kept=0), "the buffer is empty after 3 policy steps"),
        (a_step(correct=(0, 0)), "all 6 step labels say wrong"),
        (a_step(correct=(4, 1)), "all 6 step labels say right"),
        (a_step(entropy=1e-5), "entropy is 1e-05 nats a token in the last 3 policy steps"),
    ],
)
def test_each_is_said_once_when_so_many_steps_in_a_row_have_it(step: StepReport, words: str) -> None:
    first, second, (line,), *later = said(a_config(), step, step, step, step, step)
    assert first == second == [] and words in line and later == [[], []]
    assert said(a_config(), step, step, a_step(), step, step, a_step()) == [[]] * 6, "never three in a row"
    assert [len(lines) for lines in said(a_config(), a_step(), step, step, step)] == [0, 0, 0, 1]


def test_a_hopeful_run_says_nothing_and_a_hopeless_one_all_of_it() -> None:
    assert said(a_config(), *[a_step()] * 6) == [[]] * 6
    (lines,) = said(a_config(1), a_step(NONE_RIGHT, (0, 0), 0, 0.0))
    assert len(lines) == 4, "that no group is mixed goes without saying"


def test_a_short_run_is_looked_at_as_a_whole_and_0_is_never() -> None:
    hopeless = a_step(NONE_RIGHT)
    assert [len(lines) for lines in said(a_config(10, steps=2), hopeless, hopeless)] == [0, 1]
    assert said(a_config(0, steps=2), hopeless, hopeless) == [[], []]


def test_labels_that_come_late_are_waited_for() -> None:
    nothing, some = a_step(kept=0, correct=(0, 0)), a_step()
    late: dict[str, object] = {"annotation": {"delay": 4}}
    assert [len(lines) for lines in said(a_config(3, **late), *[nothing] * 9)] == [0] * 6 + [2, 0, 0]
    assert said(a_config(3, **late), *[nothing] * 4, *[some] * 4) == [[]] * 8
    assert [len(lines) for lines in said(a_config(10, steps=6, **late), *[nothing] * 6)] == [0] * 5 + [2]
    *_, (line,) = said(a_config(10, steps=4, **late), *[nothing] * 4)
    assert line.startswith("annotation.delay is 4: labels come after the 4 policy steps in which")
    *_, (line,) = said(a_config(3, steps=9, mprm={"until": 2}, **late), *[nothing] * 3)
    assert "labels come after the 2 policy steps in which" in line


def test_a_run_without_a_reward_model_is_not_told_of_labels() -> None:
    nothing = a_step(kept=0, correct=(0, 0))
    assert len(said(a_config(1), nothing)[0]) == 2
    without = {"mprm": {"enabled": False}, "annotation": {"share": 0}, "learner": {"credit": "outcome"}}
    assert said(a_config(1, **without), nothing) == [[]]
