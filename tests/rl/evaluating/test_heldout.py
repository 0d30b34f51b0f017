"""Held-out evaluations of a task with fewer prompts than are asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from rewards.records import Prompt
from rl.config import load_config
from rl.evaluating.heldout import accuracy
from rl.evaluating.strategies import PolicyEvaluator
from rl.evaluating.strategy_report import StrategyReport, evaluate_strategies
from rl.monitoring.console import Console
from rl.tasks.grid import GridTask
from rl.train import train
from tests.fixtures.builders import a_rollout
from tests.fixtures.runs import SMOKE, metrics

OPTIONS = ("workers=inline", "engine.kind=hf", "max_staleness=0", "steps=1", "record=false", "checkpoint_every=0")
OPTIONS += ("learner.prompts=1", "learner.samples=2", "learner.credit=outcome", "mprm.enabled=false")
OPTIONS += ("annotation.share=0", "evaluation.prompts=32", "evaluation.samples=1", "evaluation.strategies=[greedy]")
OPTIONS += ("evaluation.strategy_prompts=9",)


def test_a_prompt_that_is_asked_again_says_no_more_of_other_prompts() -> None:
    generator = np.random.default_rng(3)
    right = generator.random(50) < 0.6
    once = [a_rollout(group=place, outcome=float(right[place])) for place in range(50)]
    thrice = [a_rollout(group=group, outcome=float(right[group % 50])) for group in range(150)]
    places = list(range(50))
    found = astuple(accuracy(thrice, [*places, *places, *places], 1))
    assert found == pytest.approx(astuple(accuracy(once, places, 1)))


def test_answers_that_were_dropped_are_wrong() -> None:
    rollouts = [a_rollout(group=group, outcome=1.0) for group in (0, 0, 2)]
    assert accuracy(rollouts, [0, 1, 2], 2).value == 0.5


@pytest.mark.slow
def test_a_table_of_one_row_is_one_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def listening(evaluator: PolicyEvaluator, prompts: Sequence[Prompt]) -> StrategyReport:
        asked.append(len(prompts))
        return evaluate_strategies(evaluator, prompts)

    monkeypatch.setattr("rl.evaluating.schedule.evaluate_strategies", listening)
    prompt = GridTask(difficulty=2).prompt("heldout", 0)
    prompt.images[0].save(tmp_path / "picture.png")
    row = {"question": prompt.question, "answer": prompt.answer, "images": ["picture.png"]}
    for name in ("train", "heldout"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row | {"id": name}) + "\n")
    task = f"task={{name: files, train_files: [{tmp_path}/train.jsonl], heldout_files: [{tmp_path}/heldout.jsonl]}}"
    train(load_config(SMOKE, [*OPTIONS, task]), tmp_path / "run", False, Console())
    found = metrics(tmp_path / "run")[0]
    assert 0 < found["policy/accuracy"] < 1, "some of its answers are right"
    assert found["policy/accuracy_low"] == found["policy/accuracy"] == found["policy/accuracy_high"]
    assert asked == [1, 1], "by strategies, whose seeds are the prompt's, before and after"
