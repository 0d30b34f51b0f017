"""Every logger is told the same, and one more is one class more."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rewards.models.encoding import Encoder
from rewards.records import StepScores
from rl.config import Config
from rl.files.named_checkpoint import make_encoder
from rl.files.run_files import METRICS_FILE
from rl.monitoring.console import Console
from rl.monitoring.metrics_file import MetricsFile, metric_rows
from rl.monitoring.monitor import Monitor
from rl.monitoring.report import StepReport
from rl.monitoring.rollout_picture import WIDTH
from rl.monitoring.tensorboard import TensorBoard
from rl.monitoring.writer import Writer
from selection.config import SelectionConfig
from selection.prompts import ByDifficulty
from tests.fixtures.builders import a_prompt, a_report, a_rollout


class Diary(Writer):
    """Remembers what it is told; it has no use for texts."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str, object]] = []
        self.is_closed = False

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.told.append((step, "scalars", dict(values)))

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        self.told.append((step, name, values.tolist()))

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        self.told.append((step, name, (*picture.shape[1:], str(picture.dtype))))

    def curve(self, step: int, name: str, found: np.ndarray, confidence: np.ndarray) -> None:
        self.told.append((step, name, (found.tolist(), confidence.tolist())))

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return make_encoder(Config())


@pytest.fixture
def report() -> StepReport:
    """A wrong rollout, which is labelled, and a right one, with the scores 0.75, 0.25 and 0.5, 0.5."""
    rollouts = [a_rollout(outcome=0.0, group=0), a_rollout(group=1)]
    scores = [StepScores(np.array([0.75, 0.25]), 0), StepScores(np.array([0.5, 0.5]), 0)]
    return a_report([a_prompt(), a_prompt()], rollouts, scores, labelled=[0], kept=[0])


def test_all_loggers_are_told_all_of_a_step(encoder: Encoder, report: StepReport) -> None:
    diaries = Diary(), Diary()
    monitor = Monitor(Config(), encoder, Console(), diaries)
    monitor.step(1, report)
    monitor.close()
    first, second = diaries
    assert first.told == second.told and first.is_closed and second.is_closed
    (scalars,) = [what for _, name, what in first.told if name == "scalars"]
    assert isinstance(scalars, dict) and scalars["reward/outcome"] == 0.5 and np.isfinite(list(scalars.values())).all()
    assert "perf/learner_seconds" not in scalars, "nobody knows"
    assert {step for step, _, _ in first.told} == {1}
    assert [(name, what) for _, name, what in first.told if name != "scalars"] == [
        ("selection/scores_offered", [1.0]),
        ("selection/scores_kept", [1.0]),
        ("mprm/scores_of_right_rollouts", [0.5, 0.5]),
        ("mprm/scores_of_wrong_rollouts", [0.75, 0.25]),
        ("rollouts/0", (WIDTH, 3, "uint8")),
        ("rollouts/1", (WIDTH, 3, "uint8")),
        ("mprm/finding_wrong_steps_by_monte_carlo", ([False, True], [0.25, 0.75])),
    ]


def test_rollouts_are_shown_now_and_then_and_no_empty_histogram(encoder: Encoder, report: StepReport) -> None:
    diary = Diary()
    monitor = Monitor(Config(), encoder, Console(), [diary])
    unknown = replace(report, offer=replace(report.offer, informative=np.array([np.nan]), kept_scores=np.zeros(0)))
    for step in (2, 9, 10):
        monitor.step(step, unknown)
    assert {step for step, name, _ in diary.told if name.startswith("rollouts/")} == {10}
    assert not [name for _, name, _ in diary.told if name.startswith("selection/scores")]


def test_an_evaluation_is_numbers_and_a_curve_where_steps_are_wrong(encoder: Encoder) -> None:
    diary, metrics = Diary(), {"policy/accuracy": 0.5, "mprm/auc_plain": float("nan")}
    monitor = Monitor(Config(), encoder, Console(), [diary])
    monitor.evaluation(0, metrics, None)
    monitor.evaluation(4, metrics, (np.array([0.5, 0.25]), np.array([False, False])))
    monitor.evaluation(8, metrics, (np.array([0.5, 0.25]), np.array([False, True])))
    numbers = [(step, "scalars", {"policy/accuracy": 0.5}) for step in (0, 4, 8)]
    assert diary.told == [*numbers, (8, "mprm/finding_wrong_steps", ([False, True], [0.5, 0.75]))]


def test_the_metrics_file_has_a_line_each_time_and_forgets_what_came_after(tmp_path: Path) -> None:
    writer = MetricsFile(tmp_path, known=-1, keep_evaluation=True)
    for step in (1, 2):
        writer.scalars(step, {"perf/step_seconds": 0.5, "mprm/loss": float(step)})
        writer.scalars(step, {"policy/accuracy": 0.25})
        writer.text(step, "config", "is not for it")
    lines = (tmp_path / METRICS_FILE).read_text().splitlines()
    assert json.loads(lines[2]) == {"step": 2, "perf/step_seconds": 0.5, "mprm/loss": 2.0} and len(lines) == 4
    MetricsFile(tmp_path, known=1, keep_evaluation=False).scalars(1, {"policy/accuracy": 0.75})
    assert [row.get("policy/accuracy") for row in metric_rows(tmp_path)] == [None, 0.75]


def test_tensorboard_shows_how_hard_and_how_sure_prompts_are_and_which(
    encoder: Encoder, report: StepReport, tmp_path: Path
) -> None:
    prompts = ByDifficulty(SelectionConfig(), lambda index: a_prompt(f"cat|{index}", "c_1"), 2, 4, seed=0)
    ((_, prompt),) = prompts.choose(range(1), 0)
    prompts.saw(prompt, [1.0, 0.0], 0)
    batch = replace(report.batch, distributions=prompts.distributions(), standings=prompts.standings())
    monitor = Monitor(Config(), encoder, Console(), [TensorBoard(tmp_path, Config(), knows_steps=False, known=0)])
    monitor.step(1, replace(report, batch=batch))
    monitor.step(2, report)
    monitor.close()
    shown = EventAccumulator(str(tmp_path)).Reload()
    for name in ("selection/prompts_right", "selection/prompts_verdicts"):
        assert [event.step for event in shown.Histograms(name)] == [1]
    (text,) = shown.Tensors("selection/prompts/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    row = f"| {prompt.id.replace('|', chr(92) + '|')} | c{chr(92)}_1 | 1 | 0.50 | 2.0 | 0.40 |"
    assert (text.step, lines.count(row)) == (1, 2), "in either table"
    assert [line for line in lines if line.startswith("**")] == ["**asked most often**", "**surest to be mixed**"]


def test_a_clock_that_was_set_back_changes_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last start counts, and shows last, whatever the clock said at each."""
    for start, now in enumerate((1_700_003_600, 1_700_000_000, 1_699_999_000, 1_800_000_000)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        writer = TensorBoard(tmp_path, Config(), knows_steps=False, known=start)
        file = MetricsFile(tmp_path, known=start, keep_evaluation=True)
        for step in (start + 1, start + 2):
            writer.scalars(step, {"policy/loss": float(start)})
            file.scalars(step, {"policy/loss": float(start)})
        writer.close()
    expected = [(1, 0.0), (2, 1.0), (3, 2.0), (4, 3.0), (5, 3.0)]
    shown = EventAccumulator(str(tmp_path)).Reload().Scalars("policy/loss")
    assert [(event.step, event.value) for event in shown] == expected
    assert [(row["step"], row["policy/loss"]) for row in metric_rows(tmp_path)] == expected


def test_a_folder_that_is_gone_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By who writes next; TensorBoard's own thread would print a traceback besides."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    writer = TensorBoard(tmp_path / "there", Config(), knows_steps=False, known=-1)
    writer._summaries.flush()
    (tmp_path / "there").rename(tmp_path / "moved")
    writer.scalars(1, {"policy/loss": 1.0})
    with pytest.raises(FileNotFoundError):
        writer._summaries.flush()
    other = threading.Thread(target=list, args=(3,))
    other.start()
    other.join()
    said = capfd.readouterr().err
    assert "'int' object is not iterable" in said and "FileNotFoundError" not in said
