"""What a run writes for TensorBoard: layout, pictures, curves and settings, read back with TensorBoard's own reader."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from rewards.measuring.bootstrap import Interval
from rewards.models.encoding import Encoder
from rewards.records import StepScores
from rl.config import Config
from rl.evaluating.heldout import Evaluation, ScoredSteps
from rl.files.named_checkpoint import make_encoder
from rl.files.run_files import TENSORBOARD
from rl.monitoring.console import Console
from rl.monitoring.dashboard import METRICS as HEADLINES
from rl.monitoring.dashboard import SETTINGS, dashboard_layout, write_hyperparameters
from rl.monitoring.metric_table import METRICS
from rl.monitoring.monitor import Monitor, open_writers
from rl.monitoring.report import StepReport
from rl.monitoring.rollout_picture import SHOWN, choose_shown, monte_carlo_labels
from rl.tasks.grid import GridTask
from tests.fixtures.builders import a_prompt, a_report, a_rollout, some_counts

PARTS = {"task": {"rewards": {"overlong": 1.0}}}
NO_MPRM = {"mprm": {"enabled": False}, "annotation": {"share": 0}, "learner": {"credit": "outcome"}}
EVERYTHING = {
    "mprm": {"guard_share": 0.2},
    "evaluation": {"strategies": ["majority"], "bench": "processbench", "bench_path": "there"},
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return make_encoder(Config())


def some_scores(*scores: float) -> StepScores:
    return StepScores(np.array(scores), mprm_version=1)


def a_step(groups: int = 6) -> StepReport:
    """Two rollouts of two steps in each group; of the last two groups, the second one is labelled, and one is kept."""
    places = range(2 * groups)
    prompts = [a_prompt(f"prompt {place // 2}") for place in places]
    rollouts = [
        a_rollout(prompt=prompts[p].id, group=p // 2, tokens=range(p, p + 5), outcome=float(p % 2)) for p in places
    ]
    scores = [some_scores(0.25, 0.01 * place) for place in places]
    return a_report(prompts, rollouts, scores, [2 * groups - 3, 2 * groups - 1], [2 * groups - 1])


def read(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run / TENSORBOARD), size_guidance={"histograms": 0})
    events.Reload()
    return events


@pytest.mark.parametrize("knows_steps", [True, False])
@pytest.mark.parametrize("values", [{}, NO_MPRM, EVERYTHING, PARTS])
def test_every_chart_shows_metrics_that_exist(values: dict[str, dict[str, object]], knows_steps: bool) -> None:
    layout = dashboard_layout(Config.model_validate(values), knows_steps)
    assert next(iter(layout)) == "Is the policy better?" and len(layout) == (1 if values is NO_MPRM else 3)
    charts = [chart for category in layout.values() for chart in category.values()]
    for kind, tags in charts:
        assert kind in ("Margin", "Multiline") and (kind == "Multiline" or len(tags) == 3)
        for tag in tags:
            families = [*METRICS, *(f"{name}/x" for name in METRICS)]
            assert any(re.match(tag, metric) for metric in families), tag
    shown = {tag.strip("^$") for _, tags in charts for tag in tags}
    assert ("mprm/auc_within_kind" in shown) == (knows_steps and values is not NO_MPRM)
    assert ("mprm/guard_auc_after" in shown) == (values is EVERYTHING)
    assert ("reward/added/" in shown) == (values is PARTS)


def test_labelled_rollouts_of_different_groups_are_shown_first() -> None:
    report = a_step()
    prompts, rollouts = report.batch.prompts, report.batch.rollouts
    shown = choose_shown(report.labels, report.offer, lambda tokens: "".join(f" {token}" for token in tokens))
    assert len(shown) == SHOWN
    assert [entry.rollout for entry in shown] == [rollouts[place] for place in (9, 11, 0, 2)]
    assert [entry.counts is not None for entry in shown] == [True, True, False, False]
    assert [entry.kept for entry in shown] == [False, True, False, False]
    assert shown[0].steps == ["9 10", "11 12"] and shown[0].prompt == prompts[9]
    assert shown[0].scores.tolist() == [0.25, 0.09]


def test_monte_carlo_labels_are_those_of_labelled_steps() -> None:
    report = a_step()
    labels = report.labels
    found, wrong = monte_carlo_labels(labels)
    assert found.tolist() == [0.25, 0.09, 0.25, 0.11] and wrong.tolist() == [False, True, False, True]
    missing = dataclasses.replace(labels.annotated[0], counts=some_counts([0, 1], [0, 4]))
    found, wrong = monte_carlo_labels(dataclasses.replace(labels, annotated=[missing, labels.annotated[1]]))
    assert found.tolist() == [0.09, 0.25, 0.11] and wrong.tolist() == [False, False, True]
    without = dataclasses.replace(labels, scores=[some_scores()] * len(labels.scores))
    assert [len(values) for values in monte_carlo_labels(without)] == [0, 0]


def test_settings_are_there_once_and_are_the_newest(tmp_path: Path) -> None:
    for steps in (40, 80):
        write_hyperparameters(tmp_path / TENSORBOARD, Config(steps=steps))
    assert len(list((tmp_path / TENSORBOARD).iterdir())) == 1
    metadata = read(tmp_path).SummaryMetadata("_hparams_/session_start_info")
    start = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info
    assert set(start.hparams) == set(SETTINGS)
    assert start.hparams["steps"].number_value == 80 and start.hparams["mprm.enabled"].string_value == "true"
    assert set(HEADLINES) <= set(METRICS)


def with_loss(loss: float) -> StepReport:
    """`a_step`, in which the MPRM learns."""
    report = a_step()
    return dataclasses.replace(report, said=dataclasses.replace(report.said, mprm={"loss": loss}))


def test_a_run_fills_the_dashboard_and_a_resumed_one_goes_on(tmp_path: Path, encoder: Encoder) -> None:
    def monitor(step: int | None) -> Monitor:
        config = Config(steps=3)
        return Monitor(config, encoder, Console(), open_writers(config, tmp_path, GridTask(), step))

    steps = ScoredSteps(
        np.array([0.9, 0.2, 0.8, 0.3]), np.array([True, False] * 2), np.ones(4, bool), ["a"] * 4, [""] * 4, [0, 0, 1, 1]
    )
    evaluation = Evaluation(Interval(0.5, 0.4, 0.6), {"total": 0.5}, steps)
    first = monitor(None)
    metrics = evaluation.metrics()
    assert metrics["policy/accuracy_low"] == 0.4 and metrics["mprm/auc_weighted"] == 1
    first.evaluation(0, metrics, evaluation.finding)
    for step in (1, 2):
        first.step(step, with_loss(0.1 * step))
    first.close()
    second = monitor(1)
    second.step(2, with_loss(0.7))
    second.close()
    events = read(tmp_path)
    assert [event.value for event in events.Scalars("mprm/loss")] == pytest.approx([0.1, 0.7])
    assert [tag for tag in events.Tags()["images"]] == [f"rollouts/{slot}" for slot in range(SHOWN)]
    right, again = events.Histograms("mprm/scores_of_right_rollouts")
    assert (right.step, again.step) == (1, 2) and right.histogram_value.num == 12
    tensors = set(events.Tags()["tensors"])
    assert {"mprm/finding_wrong_steps", "mprm/finding_wrong_steps_by_monte_carlo"} < tensors
    layout = Layout.FromString(events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == list(dashboard_layout(Config(), True))
    assert layout.category[0].chart[0].margin.series[0].lower == "policy/accuracy_low"
