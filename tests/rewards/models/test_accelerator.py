"""Making an accelerator moves no variable of the environment, which threads may be reading in C."""

from __future__ import annotations

import ast
import os

import pytest
from accelerate.utils import TorchDynamoPlugin

from rewards.models.accelerator import Accelerator
from tests.fixtures.runs import ROOT


def test_no_variable_is_taken_away_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bytes] = []
    monkeypatch.setenv("OF_A_USER", "1")
    monkeypatch.setattr(os, "unsetenv", taken.append)
    Accelerator(cpu=True, gradient_accumulation_steps=2)
    assert b"OF_A_USER" not in taken and os.environ["OF_A_USER"] == "1"


def test_settings_are_still_compared_with_those_without_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "eager")
    assert TorchDynamoPlugin().to_kwargs()["backend"] == "eager"


def test_every_accelerator_of_ours_is_this_one() -> None:
    """TRL's trainer makes its own: what is changed is Accelerate itself, by whoever comes to the trainer."""
    importers = []
    for package in ("rl", "rewards", "selection"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module == "accelerate":
                    importers.append(str(file.relative_to(ROOT)))
    assert importers == ["rewards/models/accelerator.py"]
