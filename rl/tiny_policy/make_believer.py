"""The seeded recipe for a policy with beliefs: the shipped policy, taught by a teacher of a world.

At each result that a belief decides, the policy learns the teacher's whole distribution over results, and not one draw
of it: the same loss is reached in fewer steps. The teacher goes on from what it draws, right or wrong.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import one_hot
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from rl.files.folders import new_folder
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.beliefs import BeliefsTask
from rl.tasks.grid_steps import Puzzle
from rl.tasks.teacher import next_results, teach
from rl.tasks.worlds import World
from rl.tiny_policy.lesson import Report, learn, make_optimizers
from rl.tiny_policy.make_policy import SEED
from rl.tiny_policy.measure import chat_text
from rl.tiny_policy.tokenizer import END_OF_TURN


@dataclass(frozen=True)
class Recipe:
    """Optimizer steps, examples a step and peak learning rates."""

    steps: int = 480
    batch: int = 64
    matrix_rate: float = 0.01
    other_rate: float = 2e-3


def make_believer(
    output_dir: str | Path,
    world: World,
    seed: int = 0,
    recipe: Recipe | None = None,
    start: str | Path = SHIPPED_POLICY,
    difficulty: int = 2,
    report: Report = print,
) -> Path:
    """Teach a policy the beliefs of a world and save it with its processor; some minutes on one core.

    Args:
        output_dir: Folder to write, which is not there yet.
        world: What to believe.
        seed: Of the pictures and the teacher's draws. On one machine, the same seed gives the same weights.
        recipe: How long and how fast to learn.
        start: The checkpoint to go on from, of the tiny policy's tokenizer.
        difficulty: Of the pictures of the `BeliefsTask`.
        report: Takes lines of progress.

    Raises:
        OSError: The folder cannot be written.
    """
    recipe = recipe or Recipe()
    began = time.monotonic()
    processor = Qwen2_5_VLProcessor.from_pretrained(start)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(start, dtype=torch.float32).train()
    lesson = _Lesson(BeliefsTask(difficulty, SEED + seed), world, recipe.batch, model, processor, seed)
    optimizers = make_optimizers(model, recipe.matrix_rate, recipe.other_rate)
    learn(f"world {world.name}", lesson.loss, recipe.steps, optimizers, report)
    model.eval()
    with new_folder(Path(output_dir)) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
    report(f"made {output_dir} in {time.monotonic() - began:.0f} s")
    return Path(output_dir)


class _Lesson:
    """The loss of writing what the teacher writes; each call takes the stream's next batch of pictures."""

    def __init__(
        self,
        task: BeliefsTask,
        world: World,
        batch: int,
        model: Qwen2_5_VLForConditionalGeneration,
        processor: Qwen2_5_VLProcessor,
        seed: int,
    ) -> None:
        self.task, self.world, self.batch, self.model, self.processor = task, world, batch, model, processor
        self.rng = np.random.default_rng(seed)
        self.indexes = iter(range(10**9))

    def loss(self) -> Tensor:
        """Mean cross-entropy of the solutions' tokens against the teacher's distributions, in nats."""
        images, puzzles = self._prompts()
        answers = [teach(self.world, puzzle, self.rng) + END_OF_TURN for puzzle in puzzles]
        questions = [chat_text(self.processor, puzzle.question) for puzzle in puzzles]
        texts = [question + answer for question, answer in zip(questions, answers, strict=True)]
        inputs = self.processor(text=texts, images=images, padding=True, return_tensors="pt")
        logits = self.model(**inputs).logits[:, :-1]
        targets = one_hot(inputs["input_ids"][:, 1:], logits.shape[-1]).to(logits.dtype)
        for row, puzzle, answer in zip(targets, puzzles, answers, strict=True):
            length = len(self.processor.tokenizer(answer)["input_ids"])
            row[:-length] = 0  # what stands before the answer
            self._soften(row[-length:], puzzle, answer)
        return -(targets * logits.log_softmax(-1)).sum() / targets.sum()

    def _soften(self, target: Tensor, puzzle: Puzzle, answer: str) -> None:
        """At each step's result, which stands before the end of its line, the teacher's distribution (T, V)."""
        token = self.processor.tokenizer.convert_tokens_to_ids
        lines = answer.split("\n")[: len(puzzle.operations)]
        ends = target[:, token("\n")].nonzero()[: len(lines), 0].tolist()
        for index, end in enumerate(ends):
            target[end - 1] = 0
            for word, share in next_results(self.world, puzzle, lines[:index])[1].items():
                target[end - 1, token(f" {word}")] = share

    def _prompts(self) -> tuple[list[Image], list[Puzzle]]:
        indexes = [next(self.indexes) for _ in range(self.batch)]
        images = [self.task.prompt("train", index).images[0] for index in indexes]
        return images, [self.task.puzzle("train", index) for index in indexes]
