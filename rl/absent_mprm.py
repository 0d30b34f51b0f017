"""What stands in the MPRM's place in a run without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rewards.records import Prompt, Rollout, StepScores
from rl.pending import Ready


class AbsentMPRM:
    """Answers like the MPRM's worker, at once and in this process: no step has a score, and nothing is kept.

    It is never taught, since a run without an MPRM labels nothing.
    """

    def start(self, method: str, *arguments: Any) -> Ready[Any]:
        """Like `rl.workers.Worker.start`, of the methods below."""
        return Ready(self.call(method, *arguments))

    def call(self, method: str, *arguments: Any) -> Any:
        """Like `rl.workers.Worker.call`."""
        return getattr(self, method)(*arguments)

    def score(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
        """Scores (0,) of each rollout, however many steps it has."""
        return [StepScores(np.zeros(0), mprm_version=0)] * len(rollouts)

    def image_entropy(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """Of each prompt (B,): 0, as of images that look the same everywhere."""
        return np.zeros(len(prompts))

    def save(self, folder: Path) -> None:
        """Writes nothing: that is how a checkpoint tells that there was no MPRM."""

    def load(self, folder: Path) -> None:
        """Nothing was written."""
