"""The benchmark that says what each way of learning has of the policy's gradient, without a training run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from benchmarks.policy_gradient import CONTINUATIONS, OUTCOMES, SETTINGS, Gradient, Products, print_table
from rewards.records import Experience
from rl.config import load_config
from rl.files.named_checkpoint import make_encoder, policy_checkpoint
from rl.tasks.making import make_task


def products_of(ways: Mapping[str, np.ndarray]) -> Products:
    return Products({(a, b): one @ other.T for a, one in ways.items() for b, other in ways.items()})


@pytest.fixture(scope="module")
def gradients() -> dict[str, np.ndarray]:
    """Of 400 batches in 200 dimensions: a mean of length 10 and noise of length 20, twice; and noise alone."""
    generator = np.random.default_rng(0)
    mean = np.zeros(200)
    mean[0] = 10
    noise = generator.normal(scale=20 / np.sqrt(200), size=(3, 400, 200))
    return {OUTCOMES: mean + noise[0], "as good": mean + noise[1], CONTINUATIONS: noise[2]}


def test_efficiency_is_the_part_of_the_length_along_the_mean(gradients: dict[str, np.ndarray]) -> None:
    found = products_of(gradients)
    assert found.efficiency({OUTCOMES: 1}) == pytest.approx(10 / np.hypot(10, 20), rel=0.05)
    assert found.efficiency({OUTCOMES: 3}) == pytest.approx(found.efficiency({OUTCOMES: 1}))
    assert found.efficiency({OUTCOMES: 1}, batches=4) == pytest.approx(10 / np.hypot(10, 10), rel=0.05)
    assert found.efficiency({CONTINUATIONS: 1}) == pytest.approx(0, abs=0.05)
    assert found.efficiency({OUTCOMES: 1, CONTINUATIONS: 2}) == pytest.approx(10 / np.hypot(10, 20 * 5**0.5), rel=0.07)


def test_worth_counts_the_rollouts_that_would_do_as_well(gradients: dict[str, np.ndarray]) -> None:
    found = products_of(gradients)
    assert found.worth({OUTCOMES: 1}) == pytest.approx(1)
    assert found.worth({OUTCOMES: 1, "as good": 1}) == pytest.approx(2, rel=0.1)
    assert found.worth({OUTCOMES: 1, CONTINUATIONS: 1}) == pytest.approx(0.5, rel=0.1)
    assert len(found.without(7).of[OUTCOMES, CONTINUATIONS]) == 399


def test_the_table_says_what_more_rollouts_would_do(
    gradients: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    few = {way: rows[:40] for way, rows in gradients.items()}
    print_table(products_of(few), np.array([100.0, 300.0]))
    last = capsys.readouterr().out.strip().split("\n")[-1].split(" | ")
    assert last[0] == "| outcomes, 4.0 times the rollouts" and last[2] == "4.00 |"
    assert float(last[1].split()[0]) == pytest.approx(10 / np.hypot(10, 10), rel=0.1)


def test_the_gradient_is_that_of_finite_differences() -> None:
    """And the learner stays where it is."""
    config = load_config("configs/quickstart.yaml", [*SETTINGS])
    encoder = make_encoder(config)
    learner, task = Gradient(policy_checkpoint(config), encoder, config), make_task(config, encoder)
    texts, advantages = ("1: red 1 0 1 = 2\nAnswer: 2", "Answer: 3"), (1.5, -0.5)
    prompts = [task.prompt("train", place) for place in range(2)]
    answers = [tuple(encoder.tokens(text)) for text in texts]
    logprobs = learner.logprobs(prompts, answers)
    experiences = [
        Experience(prompt, ids, tuple(said), np.full(len(ids), advantage), 0)
        for prompt, ids, said, advantage in zip(prompts, answers, logprobs, advantages, strict=True)
    ]
    found = learner.of(experiences)
    assert learner.logprobs(prompts, answers) == logprobs
    direction = found / found.norm()
    values = []
    for size in (1e-3, -1e-3):
        move(learner, size * direction)
        values.append(
            sum(a * sum(said) for a, said in zip(advantages, learner.logprobs(prompts, answers), strict=True))
        )
        move(learner, -size * direction)
    assert (values[0] - values[1]) / 2e-3 == pytest.approx(float(found.norm()), rel=0.02)


def move(learner: Gradient, by: torch.Tensor) -> None:
    """Add one vector to all weights that learn."""
    with torch.no_grad():
        for weight, part in zip(
            learner._learning.values(), by.split([w.numel() for w in learner._learning.values()]), strict=True
        ):
            weight += part.view_as(weight)
