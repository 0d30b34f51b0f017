"""A run of a family that cannot read packed rows says so, once for each of its models, however often it begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from rl.config import load_config
from rl.errors import LostWorkerError
from rl.monitoring.console import Console
from rl.train import train
from tests.fixtures.runs import SMOKE
from tests.fixtures.tiny_families import write_tiny_checkpoint

OPTIONS = ("workers=inline", "engine.kind=hf", "max_staleness=0", "steps=1", "evaluation.prompts=1", "record=false")
OPTIONS += ("learner.prompts=1", "learner.samples=2", "engine.max_completion_tokens=8", "outcome_model.harvest=true")


class Listener(Console):
    """Keeps what it is told to say, and after the first policy step has lost a worker."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._loses = True

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        if self._loses:
            self._loses = False
            raise LostWorkerError("learner.step: the worker died")


@pytest.mark.slow
def test_models_that_read_rows_of_their_own_are_told_of_once(tmp_path: Path) -> None:
    checkpoint = write_tiny_checkpoint("qwen3_5", tmp_path / "checkpoint")
    config = load_config(SMOKE, [*OPTIONS, f"policy.checkpoint={checkpoint}"])
    console = Listener()
    assert train(config, tmp_path / "run", False, console).step == 1
    assert sum("beginning anew (1 of " in line for line in console.said) == 1
    assert [line for line in console.said if "packed rows" in line] == [
        f"{section}.pack: this model cannot read packed rows; each rollout has one of its own"
        for section in ("learner", "mprm", "outcome_model")
    ]
