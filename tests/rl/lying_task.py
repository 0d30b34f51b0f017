"""The grid task with every true step label turned round: whoever trains on the truth learns the opposite here."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.records import Prompt
from rl.config import Config
from rl.tasks.grid import GridTask
from rl.tasks.task import StepTruth


class LyingGridTask(GridTask):
    def step_truth(self, prompt: Prompt, steps: Sequence[str]) -> list[StepTruth]:
        return [StepTruth(truth.kind, not truth.own, not truth.so_far) for truth in super().step_truth(prompt, steps)]


def make(config: Config) -> GridTask:
    return LyingGridTask(config.task.difficulty, config.task.seed)
