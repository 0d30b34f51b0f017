"""What a run leaves behind while it runs: what its loggers write, and a table or lines in the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from rewards.models.encoding import Encoder
from rewards.section import is_due
from rl.config import Config
from rl.files.run_files import TENSORBOARD
from rl.monitoring.console import Console
from rl.monitoring.metrics import finite, step_metrics
from rl.monitoring.metrics_file import MetricsFile
from rl.monitoring.prompt_tables import prompt_tables
from rl.monitoring.report import StepReport
from rl.monitoring.rollout_picture import choose_shown, draw_rollout, monte_carlo_labels
from rl.monitoring.run_warnings import RunWarnings
from rl.monitoring.tensorboard import TensorBoard
from rl.monitoring.writer import Writer
from rl.tasks.task import KnowsSteps, Task

SHOWN_EVERY = 10
"""Policy steps between pictures of rollouts."""

Finding = tuple[np.ndarray, np.ndarray]
"""The MPRM's scores of S steps (S,), and which of these are wrong (S,)."""


class Monitor:
    """Says what every logger writes, and what the terminal shows.

    Args:
        config: The experiment.
        encoder: Decodes the steps of shown rollouts.
        console: The terminal's view.
        writers: The loggers; see `open_writers`.
    """

    def __init__(self, config: Config, encoder: Encoder, console: Console, writers: Sequence[Writer]) -> None:
        self._config, self._encoder, self._console, self._writers = config, encoder, console, writers
        self._warnings = RunWarnings(config)

    def step(self, step: int, report: StepReport) -> None:
        """Record one policy step; every so many steps, show a few of its rollouts."""
        metrics = step_metrics(report)
        self._write(step, metrics)
        self._console.step(step, self._config.steps, metrics)
        for warning in self._warnings.after(report):
            self.say(f"warning after step {step}: {warning}")
            for writer in self._writers:
                writer.text(step, "warning", warning)
        self._distribution(step, "selection/scores_offered", report.offer.informative)
        self._distribution(step, "selection/scores_kept", report.offer.kept_scores)
        for name, values in report.batch.distributions.items():
            self._distribution(step, name, values)
        scored = list(zip(report.batch.rollouts, report.scores, strict=True))
        for told, outcome in (("right", 1.0), ("wrong", 0.0)):
            of_these = [entry.scores for rollout, entry in scored if rollout.outcome == outcome]
            self._distribution(step, f"mprm/scores_of_{told}_rollouts", np.concatenate([np.zeros(0), *of_these]))
        if step == 1 or is_due(SHOWN_EVERY, step):
            for slot, shown in enumerate(choose_shown(report.labels, report.offer, self._encoder.decode)):
                picture = np.asarray(draw_rollout(shown))
                for writer in self._writers:
                    writer.image(step, f"rollouts/{slot}", picture)
            if any(report.batch.standings.values()):
                for writer in self._writers:
                    writer.text(step, "selection/prompts", prompt_tables(report.batch.standings))
            finding = monte_carlo_labels(report.labels)
            self._finding_wrong_steps(step, "mprm/finding_wrong_steps_by_monte_carlo", finding)

    def say(self, text: str) -> None:
        """A line for whoever watches."""
        self._console.say(text)

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """While inside, whoever watches sees what takes so long."""
        return self._console.waiting(what)

    def evaluation(self, step: int, metrics: Mapping[str, float], finding: Finding | None) -> None:
        """Record a held-out evaluation, and how well it finds wrong steps, where anybody knows them."""
        self._write(step, metrics)
        if finding is not None:
            self._finding_wrong_steps(step, "mprm/finding_wrong_steps", finding)
        self._console.evaluation(step, metrics)

    def further_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record what was found out beside the held-out evaluation."""
        self._write(step, metrics)
        self._console.further_evaluation(step, metrics)

    def close(self) -> None:
        """Close the loggers."""
        for writer in self._writers:
            writer.close()

    def _distribution(self, step: int, name: str, values: np.ndarray) -> None:
        """Record a histogram of the finite ones among the values, if there are any."""
        told = values[np.isfinite(values)]
        for writer in self._writers if len(told) else ():
            writer.histogram(step, name, told)

    def _finding_wrong_steps(self, step: int, name: str, finding: Finding) -> None:
        """Record a precision-recall curve: a step with a low score is called wrong; some are."""
        scores, wrong = finding
        for writer in self._writers if wrong.any() else ():
            writer.curve(step, name, wrong, 1 - scores)

    def _write(self, step: int, metrics: Mapping[str, float]) -> None:
        told = finite(metrics)
        for writer in self._writers:
            writer.scalars(step, told)


def open_writers(config: Config, folder: Path, task: Task, step: int | None) -> list[Writer]:
    """The loggers of a run. Opened on one that goes on, they forget what lies after ``step`` and go on from there.

    Args:
        config: The experiment.
        folder: The run folder.
        task: Where its prompts come from.
        step: Policy steps already taken; None for a run that begins, or begins anew without having been saved.

    Raises:
        ConfigError: What is there already is broken.
    """
    known = -1 if step is None else step
    writers: list[Writer] = [
        # First: it refuses a broken file before anything is written.
        MetricsFile(folder, known, keep_evaluation=known < config.steps),
        TensorBoard(folder / TENSORBOARD, config, isinstance(task, KnowsSteps), known),
    ]
    if step is None:
        text = json.dumps(config.model_dump(mode="json"), indent=2)
        for writer in writers:
            writer.text(0, "config", "\n".join(f"    {line}" for line in text.splitlines()))
    return writers
