"""The seeded recipe for the tiny policy that ships with the package: from random weights to a fallible solver.

Three lessons, each on fresh pictures of the grid task's training split: name what each cell shows, count all six
attributes, solve the task. The last one's demonstrations slip on purpose, at a rate chosen for each operation, and go
on from the slip. So the policy learns perception and arithmetic well and at temperature 1 errs about as often as its
teacher, spread over all steps; reinforcement learning then has something to sharpen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from rl.files.folders import new_folder
from rl.monitoring.terminal import waiting
from rl.tasks.grid import GridTask
from rl.tasks.grid_scene import ATTRIBUTES, COLOURS, SHAPES
from rl.tasks.grid_steps import Count, Puzzle, demonstrate
from rl.tiny_policy.architecture import make_model, make_processor
from rl.tiny_policy.lesson import Report, answer_labels, learn, make_optimizers
from rl.tiny_policy.measure import chat_text, measure
from rl.tiny_policy.tokenizer import END_OF_TURN

SHIPPED = Path(__file__).parent / "grid_policy"

SEED = 10_000  # added to the recipe's seed for the task's stream, so that RL does not replay the warm start's prompts


@dataclass(frozen=True)
class Recipe:
    """Optimizer steps of each lesson, examples a step, peak learning rates, and the teacher's slips.

    Attributes:
        slips: Share of demonstrated steps that go wrong, by operation, for operands of usual size.
    """

    cells: int = 150
    counting: int = 250
    solving: int = 450
    batch: int = 64
    matrix_rate: float = 0.01
    other_rate: float = 2e-3
    slips: dict[str, float] = field(
        default_factory=lambda: {"count": 0.10, "multiply": 0.11, "add": 0.10, "modulo": 0.13, "compare": 0.13}
    )


def make_policy(
    output_dir: str | Path,
    seed: int = 0,
    recipe: Recipe | None = None,
    difficulty: int = 2,
    measured_prompts: int = 256,
    report: Report = print,
) -> Path:
    """Train the policy and save it with its processor as a Transformers checkpoint; some minutes on two cores.

    Args:
        output_dir: Folder to write, which is not there yet.
        seed: Of the weights, the pictures and the slips. On one machine, the same seed gives the same weights.
        recipe: How long and how fast to learn.
        difficulty: Of the `GridTask` to learn.
        measured_prompts: Held-out prompts for the closing report; 0 for none.
        report: Takes lines of progress, and the measurement at the end.

    Raises:
        OSError: The folder cannot be written.
    """
    recipe = recipe or Recipe()
    began = time.monotonic()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        processor = make_processor()
        model = make_model(processor)
        lessons = _Lessons(GridTask(difficulty, seed=SEED + seed), recipe, model, processor, seed)
        optimizers = make_optimizers(model, recipe.matrix_rate, recipe.other_rate)
        for name, loss, steps in (
            ("cells", lessons.name_cells, recipe.cells),
            ("counting", lessons.count, recipe.counting),
            ("solving", lessons.solve, recipe.solving),
        ):
            learn(name, loss, steps, optimizers, report)
    model.eval()
    with new_folder(Path(output_dir)) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
    report(f"made {output_dir} in {time.monotonic() - began:.0f} s")
    if measured_prompts:
        with waiting(f"measuring it on {measured_prompts} held-out prompts"):
            measured = measure(output_dir, GridTask(difficulty), measured_prompts, seed)
        report(measured.table())
    return Path(output_dir)


class _Lessons:
    """The losses of the three lessons; each call takes the stream's next batch of pictures."""

    def __init__(
        self,
        task: GridTask,
        recipe: Recipe,
        model: Qwen2_5_VLForConditionalGeneration,
        processor: Qwen2_5_VLProcessor,
        seed: int,
    ) -> None:
        self.task, self.recipe, self.model, self.processor = task, recipe, model, processor
        self.rng = np.random.default_rng(seed)
        self.indexes = iter(range(10**9))

    def name_cells(self) -> Tensor:
        """Each visual token should look, to the word embeddings, like its cell's colour and shape."""
        images, puzzles = self._batch()
        pictures = self.processor.image_processor(images, return_tensors="pt")
        tokens = torch.cat(self.model.model.get_image_features(**pictures).pooler_output)
        loss = torch.zeros(())
        for place, words in enumerate((COLOURS, SHAPES)):
            choices = (*words, "nothing")
            ids = self.processor.tokenizer.convert_tokens_to_ids([f" {word}" for word in choices])
            target = [choices.index(cell[place]) if cell else len(words) for p in puzzles for cell in p.scene.cells]
            logits = tokens @ self.model.get_input_embeddings().weight[ids].T
            loss = loss + cross_entropy(logits, torch.tensor(target))
        return loss

    def count(self) -> Tensor:
        """Count all six attributes, in any order."""
        images, puzzles = self._batch()
        orders = [[str(attribute) for attribute in self.rng.permutation(ATTRIBUTES)] for _ in puzzles]
        drills = [
            Puzzle("count", f"Count: {' '.join(order)} = ?", puzzle.scene, tuple(map(Count, order)))
            for order, puzzle in zip(orders, puzzles, strict=True)
        ]
        return self._write(images, drills, [demonstrate(drill) for drill in drills])

    def solve(self) -> Tensor:
        """Write what the slipping teacher writes."""
        images, puzzles = self._batch()
        return self._write(images, puzzles, [demonstrate(puzzle, self.recipe.slips, self.rng) for puzzle in puzzles])

    def _batch(self) -> tuple[list[Image], list[Puzzle]]:
        indexes = [next(self.indexes) for _ in range(self.recipe.batch)]
        images = [self.task.prompt("train", index).images[0] for index in indexes]
        return images, [self.task.puzzle("train", index) for index in indexes]

    def _write(self, images: list[Image], puzzles: list[Puzzle], solutions: list[str]) -> Tensor:
        """Mean negative log-likelihood of the solutions' tokens, in nats."""
        questions = [chat_text(self.processor, puzzle.question) for puzzle in puzzles]
        answers = [solution + END_OF_TURN for solution in solutions]
        texts = [question + answer for question, answer in zip(questions, answers, strict=True)]
        batch = self.processor(text=texts, images=images, padding=True, return_tensors="pt")
        labels = answer_labels(batch["input_ids"], self.processor.tokenizer(answers)["input_ids"])
        return self.model(**batch, labels=labels).loss
