"""Stock TRL on the quickstart's task: a plain `trl.GRPOTrainer` that samples with Transformers, one run, timed.

    python benchmarks/stock_trl.py --out runs/trl-0.json --seed 0

Policy, prompts, their order, verifier, group size, loss and optimizer are those of ``configs/quickstart.yaml`` with
``learner.credit=outcome``, and held-out accuracy is taken by the same code; the clock stands still meanwhile.
`benchmarks/loop.py` runs this beside Sieve.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOConfig, GRPOTrainer

from rl.config import Config, load_config
from rl.engines.hf_engine import HfEngine
from rl.files.named_checkpoint import make_encoder, policy_checkpoint
from rl.rollouts.making import make_rollouts, rollout_requests
from rl.tasks.making import make_task, make_verifier

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


def main() -> None:
    """Train, then write seconds and accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the result")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--every", type=int, default=5, help="steps between evaluations")
    parser.add_argument("--prompts", type=int, default=512, help="held-out prompts")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    settings = {"seed": arguments.seed, "steps": arguments.steps, "evaluation.prompts": arguments.prompts}
    config = load_config(CONFIG, [f"{key}={value}" for key, value in settings.items()])
    clock = StepClock(HeldOut(config, arguments.threads), arguments.every)
    train(config, clock, arguments.threads)
    result = {"seconds": clock.seconds, "accuracy": clock.accuracy}
    arguments.out.write_text(json.dumps(result) + "\n")


def train(config: Config, callback: TrainerCallback, threads: int) -> None:
    """What a user of TRL would write."""
    learner, task, verifier = config.learner, make_task(config), make_verifier(config)

    def reward(completions: list[list[dict[str, str]]], answer: list[str], **_: Any) -> list[float]:
        return [float(verifier(turn[0]["content"], right)) for turn, right in zip(completions, answer, strict=True)]

    prompts = [task.prompt("train", index) for index in range(config.steps * learner.prompts)]
    rows = [
        {"prompt": [{"role": "user", "content": p.question}], "image": p.images[0], "answer": p.answer} for p in prompts
    ]
    micro_batches = -(-learner.prompts * learner.samples // learner.micro_batch)
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=policy_checkpoint(config),
            reward_funcs=reward,
            train_dataset=Dataset.from_list(rows),
            callbacks=[callback],
            args=GRPOConfig(
                output_dir=folder,
                model_init_kwargs={"dtype": config.policy.dtype},
                max_steps=config.steps,
                per_device_train_batch_size=learner.prompts * learner.samples // micro_batches,
                gradient_accumulation_steps=micro_batches,
                num_generations=learner.samples,
                max_completion_length=config.engine.max_completion_tokens,
                temperature=config.engine.temperature,
                shuffle_dataset=False,
                loss_type=learner.loss,
                epsilon=learner.clip,
                beta=learner.kl,
                learning_rate=learner.learning_rate,
                lr_scheduler_type="constant",
                weight_decay=learner.weight_decay,
                max_grad_norm=learner.max_grad_norm,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=not torch.cuda.is_available(),
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                seed=config.seed,
            ),
        )
        torch.set_num_threads(threads)
        trainer.train()


class HeldOut:
    """Accuracy on the held-out prompts, with the prompts and seeds of `rl.evaluating.heldout.evaluate`."""

    def __init__(self, config: Config, threads: int) -> None:
        checkpoint, longest = policy_checkpoint(config), config.engine.max_completion_tokens
        self._engine = HfEngine(checkpoint, config.engine.temperature, longest, threads=threads)
        task, evaluation = make_task(config), config.evaluation
        self._prompts = [task.prompt("heldout", index) for index in range(evaluation.prompts)]
        self._requests = rollout_requests(self._prompts, evaluation.samples, config.seed, "heldout")
        self._encoder, self._verifier = make_encoder(config), make_verifier(config)
        self._answers = evaluation.prompts * evaluation.samples

    def accuracy(self, weights: Mapping[str, torch.Tensor]) -> float:
        """Share of right answers of a policy with these weights; leaves the random state as it was."""
        self._engine.load_weights(weights, 0)
        with torch.random.fork_rng():
            samples = self._engine.sample(self._requests)
        rollouts = make_rollouts(self._prompts, samples, self._encoder, self._verifier)
        return float(np.sum([rollout.outcome for rollout in rollouts])) / self._answers


class StepClock(TrainerCallback):
    """Seconds of each whole optimizer step, sampling and loading of data included; evaluations stand outside.

    Attributes:
        seconds: One entry a step.
        accuracy: (step, held-out accuracy) of each evaluation.
    """

    def __init__(self, held_out: HeldOut, every: int) -> None:
        self._held_out, self._every, self._since = held_out, every, 0.0
        self.seconds: list[float] = []
        self.accuracy: list[tuple[int, float]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate, and start the clock."""
        self._evaluate(0, kwargs["model"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Read the clock, and stop it for an evaluation if one is due."""
        self.seconds.append(time.perf_counter() - self._since)
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self._evaluate(state.global_step, kwargs["model"])
        else:
            self._since = time.perf_counter()

    def _evaluate(self, step: int, model: torch.nn.Module) -> None:
        self.accuracy.append((step, self._held_out.accuracy(model.state_dict())))
        print(f"step {step}: held-out accuracy {self.accuracy[-1][1]:.3f}", flush=True)
        self._since = time.perf_counter()


if __name__ == "__main__":
    main()
