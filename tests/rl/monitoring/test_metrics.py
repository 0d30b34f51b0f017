"""Metrics: worked examples, and a table without gaps or doubles."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import replace
from math import isnan
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import rl
from rewards.annotation.annotator import LabelCost
from rewards.records import Annotated, Rollout, StepScores
from rl.config import Config
from rl.monitoring import metric_table, metrics
from rl.monitoring.metric_table import METRICS
from rl.monitoring.metrics import (
    StageClock,
    annotation_metrics,
    group,
    pace_metrics,
    policy_metrics,
    reward_metrics,
    selection_metrics,
    step_metrics,
)
from rl.reward_models.lessons import Lessons
from tests.fixtures.builders import (
    a_prompt,
    a_report,
    a_rollout,
    an_annotated,
    some_counts,
)

GROUPS = ("policy", "reward", "mprm", "annotation", "selection", "perf")


class Watch:
    """A clock that the test winds on."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(metrics, "time", SimpleNamespace(perf_counter=watch.perf_counter))
    return watch


def test_stages_add_up_and_the_step_is_the_whole(watch: Watch) -> None:
    clock = StageClock()
    for stage, seconds, pause in (("teach", 2.0, 1.0), ("learn", 4.0, 0.0), ("teach", 8.0, 0.5)):
        with clock(stage):
            watch.now += seconds
        watch.now += pause
    assert clock.metrics() == {"perf/teach_seconds": 10.0, "perf/learn_seconds": 4.0, "perf/step_seconds": 15.5}


def test_a_stage_that_fails_is_timed_and_the_failure_goes_on(watch: Watch) -> None:
    clock = StageClock()
    with pytest.raises(KeyError), clock("learn"):
        watch.now += 3.0
        raise KeyError
    assert clock.metrics()["perf/learn_seconds"] == 3.0


def scored(*values: float) -> StepScores:
    return StepScores(np.array(values), 0)


def test_reward_metrics_worked_by_hand() -> None:
    rollouts = [
        a_rollout([1, 1], outcome=1.0, group=0, tail=1),
        a_rollout([2], outcome=0.0, group=0, tail=0, finish_reason="length"),
        a_rollout([1, 1, 1], outcome=0.0, group=1, tail=2),
        a_rollout([], outcome=0.0, group=1, tail=2),
    ]
    scores = [scored(0.6, 0.9), scored(0.2), scored(0.4, 0.5, 0.4), scored()]
    counts = [some_counts([3, 0, 0], [8, 8, 0]), some_counts([1, 2])]  # of rollouts 2 and 0
    found = reward_metrics(rollouts, scores, counts, [scores[2], scores[0]])
    assert found == {
        "reward/outcome": pytest.approx(1 / 4),
        "reward/mprm": pytest.approx((0.6 + 0.9 + 0.2 + 0.4 + 0.5 + 0.4) / 6),
        "reward/mixed_groups": pytest.approx(1 / 2),
        "reward/steps": pytest.approx(6 / 4),
        "reward/tokens": pytest.approx((3 + 2 + 5 + 2) / 4),
        "reward/truncated": pytest.approx(1 / 4),
        "reward/mprm_gap": pytest.approx(0.9 - (0.2 + 0.4) / 2),
        # hard labels 1, 0 and missing against 0.4, 0.5; 1, 1 against 0.6, 0.9
        "reward/mprm_error": pytest.approx((0.6 + 0.5 + 0.4 + 0.1) / 4),
    }


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_said_is_nan_and_not_zero() -> None:
    rollouts = [a_rollout([1], outcome=1.0), a_rollout([], outcome=1.0)]
    found = reward_metrics(rollouts, [scored(0.5), scored()], [], [])
    assert isnan(found["reward/mprm_gap"]) and isnan(found["reward/mprm_error"])
    assert found["reward/mixed_groups"] == 0
    assert not {"reward/mprm_perception", "reward/mprm_reasoning"} & set(found)
    missing = reward_metrics(rollouts, [scored(0.5), scored()], [some_counts([0], 0)], [scored(0.5)])
    assert isnan(missing["reward/mprm_error"])


@pytest.mark.parametrize("rollout", [a_rollout([]), a_rollout([1, 1])], ids=["no step", "no MPRM"])
def test_without_a_score_nothing_is_said_of_scores(rollout: Rollout) -> None:
    found = reward_metrics([rollout], [scored()], [], [])
    assert found["reward/steps"] == len(rollout.steps) and not [name for name in found if "mprm" in name]


A_COST = LabelCost(
    continuations=4, tokens=6, truncated=1, rounds=2, seconds=3.0, fixed_continuations=16, fixed_tokens=30.0
)


def test_annotation_metrics_worked_by_hand() -> None:
    assert annotation_metrics(A_COST, [some_counts([1, 0]), some_counts([0, 0], 0)]) == {
        "annotation/continuations": 4.0,
        "annotation/tokens": 6.0,
        "annotation/truncated": 0.25,
        "annotation/rounds": 2.0,
        "annotation/seconds": 3.0,
        "annotation/saved_continuations": 12.0,
        "annotation/saved_tokens": 24.0,
        "annotation/saved_seconds": 12.0,
        "annotation/labelled": 0.5,
    }
    assert isnan(annotation_metrics(replace(A_COST, continuations=0), [])["annotation/truncated"])


def test_steps_with_kinds_are_reported_by_kind() -> None:
    rollout = a_rollout([1, 1, 1])
    kinds = ("perception", "perception", "reasoning")
    steps = tuple(replace(span, kind=kind) for span, kind in zip(rollout.steps, kinds, strict=True))
    rollouts = [a_rollout([2]), replace(rollout, steps=steps)]
    rewards = reward_metrics(rollouts, [scored(0.9), scored(0.2, 0.6, 0.5)], [], [])
    assert rewards["reward/mprm_perception"] == pytest.approx(0.4)
    assert rewards["reward/mprm_reasoning"] == 0.5
    labels = annotation_metrics(A_COST, [some_counts([1]), some_counts([3, 0, 0], [8, 8, 0])], rollouts)
    by_kind = {name: value for name, value in labels.items() if name.endswith(("_perception", "_reasoning"))}
    assert by_kind == {"annotation/labelled_perception": 2.0, "annotation/positive_perception": 0.5}
    assert set(by_kind) < set(METRICS)


def test_selection_metrics_worked_by_hand() -> None:
    """BIS with alpha 1: (1/4 + 1) 1/2, 1 and 1/4; the unlabelled rollout is in no mean."""
    batch = [
        Annotated(a_prompt(), a_rollout([1, 1], tokens=[place]), some_counts(correct, sampled))
        for place, (correct, sampled) in enumerate((([4, 0], 8), ([0, 0], 8), ([2, 2], 8), ([0, 0], 0)))
    ]
    selection = {"selector": "bis", "alpha": 1, "keep_ratio": 0.7, "capacity": 10}
    lessons = Lessons(Config.model_validate({"selection": selection}))
    assert selection_metrics(lessons.offer(0, batch, None, None)) == {
        "selection/seen": 4.0,
        "selection/score": pytest.approx((0.625 + 1.0 + 0.25) / 3),
        "selection/mixture": pytest.approx(0.25 / 3),
        "selection/reliability": pytest.approx((0.5 + 1.0 + 0.25) / 3),
        "selection/all_negative": pytest.approx(1 / 3),
        "selection/kept_mixture": pytest.approx((0.25 + 0) / 2),
        "selection/kept_reliability": pytest.approx((0.5 + 1.0) / 2),
        "selection/size": 2.0,
        "selection/held": 3.0,
        "selection/threshold": pytest.approx(0.625),
        "selection/age": 0.0,
        "selection/kept_all_negative": 0.5,
        "selection/share/total": 1.0,
        "selection/kept": 0.5,
        "selection/left/all_negative": 0.0,
        "selection/left/capacity": 0.0,
        "selection/left/outranked": 0.0,
        "selection/left/replaced": 0.0,
    }


SAID = {"loss": 0.5, "seconds": 2.0, "tokens": 100.0, "flops_utilisation": 0.25}


def test_pace_worked_by_hand() -> None:
    """Two engines, 5 seconds: 8 of 10 engine seconds were sampling; the learner had 3 seconds off."""
    assert pace_metrics(5.0, SAID, busy_seconds=8.0, engines=2, tokens=250) == {
        "perf/learner_seconds": 2.0,
        "perf/learner_wait": 3.0,
        "perf/learner_tokens": 100.0,
        "perf/learner_tokens_per_second": 50.0,
        "perf/flops_utilisation": 0.25,
        "perf/engine_busy_seconds": 4.0,
        "perf/engine_idle": pytest.approx(0.2),
        "perf/tokens_per_second": 50.0,
    }
    ahead = pace_metrics(5.0, SAID, busy_seconds=11.0, engines=2, tokens=250)
    assert ahead["perf/engine_idle"] == 0 and ahead["perf/engine_busy_seconds"] == 5.5
    assert policy_metrics(SAID) == {"policy/loss": 0.5}


def test_a_report_becomes_metrics_each_where_it_belongs() -> None:
    prompts, rollouts = [a_prompt("a"), a_prompt("b")], [a_rollout(prompt="a"), a_rollout(prompt="b", outcome=0.0)]
    report = a_report(prompts, rollouts, [scored(0.75, 0.5), scored(0.25, 0.25)], labelled=[1], kept=[1])
    said = replace(
        report.said,
        policy=SAID,
        mprm={"loss": 0.25, "seconds": 1.5},
        outcome_model={"loss": 0.125},
        answers={"model": 0.75},
        hacking={"reward/hacking_gap": 0.5},
    )
    labels = replace(report.labels, cost=A_COST, metrics={"annotation/judged": 1.0})
    made = step_metrics(replace(report, said=said, labels=labels))
    assert made["perf/tokens_per_second"] == 100 + 6, "sampled for rollouts and for labels"
    assert (made["perf/engine_idle"], made["perf/learner_seconds"], made["perf/wall_seconds"]) == (0.5, 2.0, 60.0)
    assert made["perf/mprm_update_seconds"] == 1.5 and "mprm/seconds" not in made
    assert (made["policy/loss"], made["mprm/loss"], made["reward/model_loss"]) == (0.5, 0.25, 0.125)
    assert (made["reward/model"], made["reward/hacking_gap"], made["reward/groups"]) == (0.75, 0.5, 1.0)
    assert made["reward/mprm_error"] == pytest.approx((0.75 + 0.25) / 2), "labels 1 and 0 of the second rollout"
    assert made["annotation/labelled"] == made["annotation/judged"] == 1.0 and made["annotation/tokens"] == 6.0
    assert made["selection/kept_mixture"] == 0.25
    order = list(dict.fromkeys(name.partition("/")[0] for name in made))
    assert order == ["perf", "reward", "annotation", "policy", "selection", "mprm"]
    assert list(made)[-1] == "perf/wall_seconds"


def test_every_documented_metric_is_there_once_and_fully() -> None:
    (table,) = (
        node.value
        for node in ast.parse(inspect.getsource(metric_table)).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "METRICS"
    )
    assert isinstance(table, ast.Dict)
    written = [ast.literal_eval(key) for key in table.keys if key is not None]
    assert len(written) == len(set(written)) == len(METRICS) > 0
    for name, texts in METRICS.items():
        assert re.fullmatch(rf"({'|'.join(GROUPS)})/[a-z][a-z0-9_]*", name), name
        assert len(texts) == 3 and all(text.strip() == text != "" for text in texts), name
    assert {name.partition("/")[0] for name in METRICS} == set(GROUPS)


def test_every_metric_that_is_made_is_documented() -> None:
    lessons = Lessons(Config())
    made = {
        *reward_metrics([a_rollout([1])], [scored(0.5)], [], []),
        *annotation_metrics(A_COST, []),
        *selection_metrics(lessons.offer(0, [an_annotated([1, 0])], None, None)),
        *pace_metrics(5.0, SAID, 8.0, 2, 250),
        *policy_metrics(SAID),
    }
    families = {"/".join(name.split("/")[:2]) for name in made}
    assert families <= set(METRICS)
    deeper = {"/".join(name.split("/")[:2]) for name in made if name.count("/") > 1}
    assert deeper == {"selection/share", "selection/left"}


def test_every_stage_of_the_loop_is_documented() -> None:
    stages = re.findall(r'clock\("(\w+)"\)', (Path(rl.__file__).parent / "loop.py").read_text(encoding="utf-8"))
    documented = {name for name in METRICS if re.fullmatch(r"perf/\w+_seconds", name)}
    others = {f"perf/{name}_seconds" for name in ("step", "wall", "learner", "mprm_update", "engine_busy")}
    assert {f"perf/{stage}_seconds" for stage in stages} == documented - others


def test_a_group_prefixes_its_names() -> None:
    assert group("mprm", {"loss": 1, "positive": 0.5}) == {"mprm/loss": 1.0, "mprm/positive": 0.5}
