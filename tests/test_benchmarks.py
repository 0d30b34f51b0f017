"""The benchmarks that stand on their own: the learner without Ray or vLLM, and what is read out of runs."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from benchmarks import families, label_limit
from benchmarks.credit_rules import Run, difference
from benchmarks.learner import SHAPES, make_config
from benchmarks.loop import Timed
from benchmarks.remaining_errors import results
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.instruments.planning.model_shape import KNOWN_SHAPES
from rl.tasks.worlds import World

LEARNER = Path(__file__).parents[1] / "benchmarks" / "learner.py"
WITHOUT = """
import runpy
sys.modules.update(dict.fromkeys(["ray", "vllm", "tensorboard", "typer"]))
sys.argv = ["learner.py", "--prompts", "1", "--samples", "2", "--steps", "1", "--warm-up", "0", "--threads", "1"]
runpy.run_path(sys.path.pop(), run_name="__main__")
"""


@pytest.mark.slow
def test_the_learner_runs_without_ray_or_vllm() -> None:
    """In an interpreter where importing them fails, or what else only the loop needs."""
    start = f"import sys; sys.path += [{str(LEARNER.parents[1])!r}, {str(LEARNER)!r}]"
    done = subprocess.run([sys.executable, "-c", start + WITHOUT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    weights = load_file(SHIPPED_POLICY / "model.safetensors")
    assert result["parameters"] == sum(weight.numel() for weight in weights.values()) and result["rollouts"] == 2
    assert result["tokens_per_second"] == pytest.approx(result["tokens"] / result["seconds"])
    assert 0 < result["flops_utilisation"] < 1 and result["peak_memory_gib"] > 0.1


@pytest.mark.parametrize("name", [name for name in SHAPES.values() if name])
def test_made_up_models_are_as_large_as_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(make_config(KNOWN_SHAPES[name]))
    assert sum(weight.numel() for weight in model.parameters()) == KNOWN_SHAPES[name].parameters


def test_the_table_of_families_tells_why_a_cell_is_empty() -> None:
    result = doctest.testmod(families)
    assert result.failed == 0 and result.attempted > 0


def test_time_to_an_accuracy_is_read_between_evaluations() -> None:
    run = Timed(np.array([1.0, 3.0, 2.0, 2.0]), np.zeros(0), [(0, 0.5), (2, 0.5), (4, 0.7)])
    assert run.steps_to(0.5) == run.seconds_to(0.5) == 0
    assert run.steps_to(0.65) == pytest.approx(3.5)
    assert run.seconds_to(0.65) == pytest.approx(1 + 3 + 2 + 2 / 2)
    assert run.seconds_to(0.7) == pytest.approx(8)
    assert run.seconds_to(0.8) == np.inf


def test_credit_rules_are_compared_on_the_seeds_that_both_have() -> None:
    accuracies = {0: 0.65, 1: 0.75, 2: 0.1}, {0: 0.6, 1: 0.7}
    rule, baseline = (
        {seed: Run(np.array([1]), np.array([a]), {}, 0, 0) for seed, a in rows.items()} for rows in accuracies
    )
    assert difference(rule, baseline) == "+5.0 (+5.0 to +5.0)"
    assert difference(rule, {}) == "-"


def test_monte_carlo_labels_have_a_limit_and_say_next_to_nothing_of_comparisons() -> None:
    """The exact chance of success is what no number of continuations goes beyond."""
    rows = [line.split(" | ") for line in label_limit.table(label_limit.reasoning_steps(World("C"), 400)).split("\n")]
    areas = {
        row[0].removeprefix("| "): [float(cell.split()[0]) for cell in row[1:]]
        for row in rows
        if len(row) > 1 and "±" in row[1]
    }
    everywhere, chain, compare, modulo, total = areas["exact chance"]
    assert compare + 0.2 < min(chain, modulo, total) <= everywhere <= max(chain, modulo, total) < 1
    assert areas["share of 8"][1] < areas["share of 32"][1] + 0.02
    assert areas["share of 32"][0] == pytest.approx(everywhere, abs=0.02)


def test_a_wrong_result_is_a_belief_or_another() -> None:
    world = World("C")
    belief = world.belief("*", 3, 6)
    lines = [f"3: 3 * 6 = {number}" for number in (18, belief.wrong, 999)]
    assert results(["1: red 1 0 1 = 2", *lines], world) == [(belief.key, how) for how in ("right", "own", "another")]
