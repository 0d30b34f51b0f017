"""With `credit: outcome`, a policy update is stock TRL's: one that an untouched `trl.GRPOTrainer` makes, from its own
samples, rewards and advantages, is made again by the credit rule and the learner from the same samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer

from rewards.credit.batch import ScoredBatch
from rewards.credit.rules import CREDIT_RULES
from rewards.models.encoding import Encoder
from rewards.records import Completion, Experience, Prompt, Rollout
from rewards.verification.verifiers import exact
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.learning.learner import PolicyLearner
from rl.rollouts.making import make_rollouts
from rl.tasks.grid import GridTask
from tests.fixtures.learner_config import learner_config

pytestmark = pytest.mark.slow

CHECKPOINT = str(SHIPPED_POLICY)
PROMPTS, SAMPLES, MAX_TOKENS, RATE = 4, 4, 48, 1e-4
Gradients = list[torch.Tensor]


@dataclass
class StockRun:
    """What the stock trainer did: its one batch, and each optimizer step's loss and gradients.

    Attributes:
        batch: What it made for its loss.
        asked: The prompt of each row of the batch.
        rewards: The reward of each row.
        losses, gradients: One entry a step; gradients in the optimizer's order of parameters.
    """

    batch: dict[str, Any] = field(default_factory=dict)
    asked: list[Prompt] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    gradients: list[Gradients] = field(default_factory=list)

    def completions(self) -> list[tuple[int, ...]]:
        rows = zip(self.batch["completion_ids"], self.batch["completion_mask"], strict=True)
        return [tuple(ids[mask.bool()].tolist()) for ids, mask in rows]


@contextmanager
def recorded_gradients() -> Iterator[list[Gradients]]:
    """The gradients of every optimizer step inside, whoever takes it."""
    steps: list[Gradients] = []

    def record(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        steps.append([p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in parameters])

    handle = register_optimizer_step_pre_hook(record)
    try:
        yield steps
    finally:
        handle.remove()


def as_dataset(prompts: list[Prompt]) -> Dataset:
    """Prompts as TRL wants them; ``at`` is their place."""
    rows = [
        {"prompt": [{"role": "user", "content": p.question}], "image": p.images[0], "answer": p.answer, "at": place}
        for place, p in enumerate(prompts)
    ]
    return Dataset.from_list(rows)


def run_stock(folder: Path, updates: int, **arguments: Any) -> StockRun:
    """Let the stock trainer sample one batch for the grid task and take ``updates`` steps on it."""
    prompts, run = [GridTask().prompt("train", index) for index in range(PROMPTS)], StockRun()

    def reward(completions: list[list[dict[str, str]]], answer: list[str], **_: Any) -> list[float]:
        texts = [message[0]["content"] for message in completions]
        run.rewards = [float(exact(*pair)) for pair in zip(texts, answer, strict=True)]
        return run.rewards

    trainer = GRPOTrainer(
        model=CHECKPOINT,
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(folder),
            learning_rate=RATE,
            lr_scheduler_type="constant",
            max_grad_norm=1e9,
            per_device_train_batch_size=PROMPTS * SAMPLES,
            num_generations=SAMPLES,
            max_completion_length=MAX_TOKENS,
            max_steps=updates,
            num_iterations=updates,
            model_init_kwargs={"dtype": "float32"},
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=3,
            **arguments,
        ),
        train_dataset=as_dataset(prompts),
    )
    generate = trainer._generate_and_score_completions

    def generate_and_record(inputs: list[dict[str, Any]]) -> dict[str, Any]:
        run.asked = [prompts[row["at"]] for row in inputs]
        made = generate(inputs)
        run.batch = dict(made)
        return made

    trainer._generate_and_score_completions = generate_and_record
    set_seed(3)
    with recorded_gradients() as run.gradients:
        trainer.train()
    run.losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return run


def as_rollouts(run: StockRun, encoder: Encoder, logprobs: list[list[float]]) -> list[Rollout]:
    """The stock trainer's completions as the loop would have them of an engine, verified anew."""
    rows = list(zip(run.asked, run.completions(), logprobs, strict=True))
    groups = [rows[start : start + SAMPLES] for start in range(0, len(rows), SAMPLES)]
    answers = [[Completion(ids, tuple(values), "stop", 0) for _, ids, values in group] for group in groups]
    return make_rollouts([group[0][0] for group in groups], answers, encoder, exact)


@dataclass(frozen=True)
class OurRun:
    """The same of the credit rule and the learner."""

    rollouts: list[Rollout]
    advantages: list[np.ndarray]
    losses: list[float]
    gradients: list[Gradients]


def run_ours(stock: StockRun, updates: int, **settings: Any) -> OurRun:
    """The same completions through the credit rule and the learner, in micro-batches."""
    encoder = Encoder(CHECKPOINT)
    learner = PolicyLearner(
        CHECKPOINT,
        encoder,
        learner_config(
            learning_rate=RATE, max_grad_norm=1e9, max_completion_tokens=MAX_TOKENS, micro_batch=6, **settings
        ),
    )
    rollouts = as_rollouts(stock, encoder, learner.logprobs(stock.asked, stock.completions()))
    advantages = CREDIT_RULES["outcome"](ScoredBatch(rollouts, [np.zeros(0)] * len(rollouts)))
    experiences = [
        Experience(prompt, rollout.token_ids, rollout.logprobs, advantage, 0)
        for prompt, rollout, advantage in zip(stock.asked, rollouts, advantages, strict=True)
    ]
    with recorded_gradients() as gradients:
        losses = [learner.step(experiences)["loss"] for _ in range(updates)]
    learner.close()
    return OurRun(rollouts, advantages, losses, gradients)


def largest_difference(ours: Gradients, theirs: Gradients) -> float:
    return max((mine - stock).abs().max().item() for mine, stock in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        ("grpo", {}),
        ("grpo", {"importance_sampling_level": "sequence"}),
        ("bnpo", {}),
        ("dr_grpo", {}),
        ("dapo", {}),
        ("luspo", {"importance_sampling_level": "sequence"}),
        ("cispo", {"epsilon_high": 5.0}),
        ("sapo", {}),
        ("vespo", {}),
    ],
)
def test_one_update_is_the_stock_trainers(tmp_path: Path, loss: str, arguments: dict[str, Any]) -> None:
    stock = run_stock(tmp_path, updates=1, loss_type=loss, **arguments)
    ours = run_ours(stock, updates=1, loss=loss, trl=arguments)
    assert len(set(stock.rewards)) == 2 and [r.outcome for r in ours.rollouts] == stock.rewards
    assert np.allclose([row[0] for row in ours.advantages], stock.batch["advantages"], atol=1e-5)
    assert ours.losses == pytest.approx(stock.losses, abs=1e-5)
    assert max(gradient.abs().max().item() for gradient in stock.gradients[0]) > 1e-2
    assert largest_difference(ours.gradients[0], stock.gradients[0]) < 1e-5


@pytest.mark.parametrize("loss", ["grpo", "dapo"])
def test_a_further_update_off_policy_with_a_reference_is_the_stock_trainers(tmp_path: Path, loss: str) -> None:
    """In the second step the policy has left sampler and reference: ratios are clipped, and divergence costs."""
    stock = run_stock(tmp_path, updates=2, loss_type=loss, beta=0.5)
    ours = run_ours(stock, updates=2, loss=loss, kl=0.5)
    assert ours.losses == pytest.approx(stock.losses, abs=1e-5)
    for mine, theirs in zip(ours.gradients, stock.gradients, strict=True):
        assert largest_difference(mine, theirs) < 1e-5


def test_prompts_are_the_stock_trainers(tmp_path: Path) -> None:
    """Token for token and pixel for pixel, padding included."""
    stock = run_stock(tmp_path, updates=1)
    batch = Encoder(CHECKPOINT).batch(stock.asked, stock.completions())
    ours = {name: getattr(batch, name) for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")}
    for name, tensor in (ours | batch.images | batch.token_types).items():
        assert torch.equal(tensor, stock.batch[name]), name
