"""What a run leaves behind while it runs: TensorBoard, ``metrics.jsonl``, and a table or lines in the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from rewards.files.whole_file import replacing
from rewards.models.encoding import Encoder
from rewards.records import Prompt, Rollout, StepScores
from rewards.section import is_due
from rl.config import Config
from rl.errors import ConfigError
from rl.evaluating.heldout import Evaluation
from rl.files.run_files import METRICS_FILE, TENSORBOARD
from rl.monitoring.console import Console
from rl.monitoring.dashboard import dashboard_layout, write_hyperparameters
from rl.monitoring.recording import Offer
from rl.monitoring.rollout_picture import choose_shown, draw_rollout, monte_carlo_labels
from rl.tasks.task import KnowsSteps, Task

SHOWN_EVERY = 10
"""Policy steps between pictures of rollouts."""


class Monitor:
    """Writes metrics down. Opened on a run that goes on, it forgets what lies after ``step`` and goes on from there.

    Args:
        folder: The run folder.
        config: The experiment.
        encoder: Decodes the steps of shown rollouts.
        task: Where their prompts come from.
        console: The terminal's view.
        step: Policy steps already taken; None for a run that begins, or begins anew without having been saved.
    """

    def __init__(
        self, folder: Path, config: Config, encoder: Encoder, task: Task, console: Console, step: int | None
    ) -> None:
        self._config, self._encoder, self._console = config, encoder, console
        self._lines = folder / METRICS_FILE
        known = -1 if step is None else step
        _forget_after(self._lines, known, keep_evaluation=known < config.steps)
        # Before the run's own file is there: TensorBoard goes on reading the newest one alone.
        write_hyperparameters(folder / TENSORBOARD, config)
        self._writer = SummaryWriter(str(folder / TENSORBOARD), purge_step=known + 1)
        self._writer.add_custom_scalars(dashboard_layout(config, isinstance(task, KnowsSteps)))
        if step is None:
            text = json.dumps(config.model_dump(mode="json"), indent=2)
            self._writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()), 0)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the scalars of one policy step."""
        self._write(step, metrics)
        self._console.step(step, self._config.steps, metrics)

    def say(self, text: str) -> None:
        """A line for whoever watches."""
        self._console.say(text)

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """While inside, whoever watches sees what takes so long."""
        return self._console.waiting(what)

    def distribution(self, step: int, name: str, values: np.ndarray) -> None:
        """Record a histogram of the finite ones among the values, if there are any."""
        finite = values[np.isfinite(values)]
        if len(finite):
            self._writer.add_histogram(name, finite, step)

    def evaluation(self, step: int, evaluation: Evaluation) -> dict[str, float]:
        """Record a held-out evaluation; gives its metrics back."""
        metrics = evaluation.metrics()
        self._write(step, metrics)
        if evaluation.steps is not None:
            self._finding_wrong_steps(
                step, "mprm/finding_wrong_steps", evaluation.steps.scores, ~evaluation.steps.so_far
            )
        self._console.evaluation(step, metrics)
        return metrics

    def further_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record what was found out beside the held-out evaluation."""
        self._write(step, metrics)
        self._console.further_evaluation(step, metrics)

    def rollouts(
        self,
        step: int,
        prompts: Sequence[Prompt],
        rollouts: Sequence[Rollout],
        scores: Sequence[StepScores],
        offer: Offer,
    ) -> None:
        """Record how the MPRM scores a policy step's rollouts, and what was made of them; every so many steps, show a
        few of them."""
        for told, outcome in (("right", 1.0), ("wrong", 0.0)):
            of_these = [s.scores for r, s in zip(rollouts, scores, strict=True) if r.outcome == outcome]
            self.distribution(step, f"mprm/scores_of_{told}_rollouts", np.concatenate([np.zeros(0), *of_these]))
        if step == 1 or is_due(SHOWN_EVERY, step):
            shown = choose_shown(prompts, rollouts, scores, offer, self._encoder.decode)
            for slot, entry in enumerate(shown):
                picture = np.asarray(draw_rollout(entry))
                self._writer.add_image(f"rollouts/{slot}", picture, step, dataformats="HWC")
            known, wrong = monte_carlo_labels(scores, offer)
            self._finding_wrong_steps(step, "mprm/finding_wrong_steps_by_monte_carlo", known, wrong)

    def close(self) -> None:
        """Flush and close the files."""
        self._writer.close()

    def _finding_wrong_steps(self, step: int, name: str, scores: np.ndarray, wrong: np.ndarray) -> None:
        """Record a precision-recall curve: a step with a low score (S,) is called wrong; some (S,) are."""
        if wrong.any():
            self._writer.add_pr_curve(name, wrong, 1 - scores, step)

    def _write(self, step: int, metrics: Mapping[str, float]) -> None:
        finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
        for name, value in finite.items():
            self._writer.add_scalar(name, value, step)
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | finite) + "\n")


def _forget_after(path: Path, step: int, keep_evaluation: bool = True) -> None:
    """Drop the lines of steps after ``step``: an interrupted run wrote them and its resumption writes them again.

    The evaluation of ``step`` itself may have to go with them: the last one comes after the last checkpoint, all others
    come before theirs.

    Raises:
        ConfigError: A line is broken.
    """
    if not path.exists():
        return
    # A run that was killed may have torn its last line.
    whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    steps = [_step_of(path, number, line) for number, line in enumerate(whole, start=1)]
    kept = [
        line
        for line, of in zip(whole, steps, strict=True)
        if of < step or (of == step and (keep_evaluation or b'"perf/step_seconds"' in line))
    ]
    with replacing(path) as partial:
        partial.write_bytes(b"".join(kept))


def _step_of(path: Path, number: int, line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}:{number}: allowed is an object of numbers with a step") from None
