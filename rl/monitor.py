"""What a run leaves behind while it runs: TensorBoard, ``metrics.jsonl``, and a table or lines in the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from rewards.encoding import Encoder
from rewards.records import Prompt, Rollout, StepScores
from rl.config import Config
from rl.console import Console
from rl.evaluating.evaluation import Evaluation
from rl.progress import is_due

TENSORBOARD, METRICS_FILE = "tensorboard", "metrics.jsonl"
SAMPLES_EVERY = 10
SAMPLES_SHOWN = 4


class Monitor:
    """Writes metrics down. Opened on a resumed run, it forgets what lies after ``step`` and goes on from there.

    Args:
        folder: The run folder.
        config: The experiment.
        encoder: Decodes the steps of shown rollouts.
        console: The terminal's view.
        step: Policy steps already taken.
    """

    def __init__(self, folder: Path, config: Config, encoder: Encoder, console: Console, step: int) -> None:
        self._config, self._encoder, self._console = config, encoder, console
        self._lines = folder / METRICS_FILE
        _forget_after(self._lines, step)
        self._writer = SummaryWriter(str(folder / TENSORBOARD), purge_step=step + 1 if step else None)
        if not step:
            text = json.dumps(config.model_dump(mode="json"), indent=2)
            self._writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()), 0)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the scalars of one policy step."""
        self._write(step, metrics)
        self._console.step(step, self._config.steps, metrics)

    def say(self, text: str) -> None:
        """A line for whoever watches."""
        self._console.say(text)

    def distribution(self, step: int, name: str, values: np.ndarray) -> None:
        """Record a histogram of the finite ones among the values, if there are any."""
        finite = values[np.isfinite(values)]
        if len(finite):
            self._writer.add_histogram(name, finite, step)

    def evaluation(self, step: int, evaluation: Evaluation) -> dict[str, float]:
        """Record a held-out evaluation; gives its metrics back."""
        metrics = evaluation.metrics()
        self._write(step, metrics)
        self._console.evaluation(step, metrics)
        return metrics

    def further_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record what was found out beside the held-out evaluation."""
        self._write(step, metrics)
        self._console.further_evaluation(step, metrics)

    def samples(
        self, step: int, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], scores: Sequence[StepScores]
    ) -> None:
        """Every so many steps, show a few rollouts of different groups: images, and text with each step's score."""
        if not (step == 1 or is_due(SAMPLES_EVERY, step)):
            return
        firsts = {rollout.group: place for place, rollout in reversed(list(enumerate(rollouts)))}
        for slot, place in enumerate(sorted(firsts.values())[:SAMPLES_SHOWN]):
            prompt, rollout, scored = prompts[place], rollouts[place], scores[place].scores
            for number, image in enumerate(prompt.images):
                self._writer.add_image(f"rollout_{slot}/image_{number}", np.asarray(image), step, dataformats="HWC")
            lines = [
                f"| {self._encoder.decode(rollout.token_ids[span.start : span.end]).strip()} | {score:.2f} |"
                for span, score in zip(rollout.steps, scored, strict=True)
            ]
            verdict = "right" if rollout.outcome else "wrong"
            final = rollout.text.rstrip().splitlines()[-1] if rollout.text.strip() else "(nothing)"
            head = f"**{prompt.question}** (reference answer {prompt.answer})\n\n| step | MPRM |\n|---|---|\n"
            self._writer.add_text(f"rollout_{slot}/text", head + "\n".join(lines) + f"\n\n{final}: **{verdict}**", step)

    def close(self) -> None:
        """Flush and close the files."""
        self._writer.close()
        self._console.close()

    def _write(self, step: int, metrics: Mapping[str, float]) -> None:
        finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
        for name, value in finite.items():
            self._writer.add_scalar(name, value, step)
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | finite) + "\n")


def _forget_after(path: Path, step: int) -> None:
    """Drop the lines of steps after ``step``: an interrupted run wrote them and its resumption writes them again."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    # A run that was killed may have torn its last line.
    whole = [line for line in lines if line.endswith("\n")]
    path.write_text("".join(line for line in whole if json.loads(line)["step"] <= step), encoding="utf-8")
