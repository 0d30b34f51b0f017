"""The embedded default task: count coloured shapes in a 3 x 3 grid and reckon with the counts, in written steps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from rewards.records import Prompt
from rl.tasks.grid_scene import ATTRIBUTES, Look, Scene, draw, sample_scene
from rl.tasks.grid_steps import Combine, Count, Puzzle, Result, check_steps
from rl.tasks.task import Split, StepTruth

LOOKS = {
    1: Look(noise=10, shift=1, stain=6),
    2: Look(noise=25, shift=2, stain=12),
    3: Look(noise=60, shift=4, stain=30),
}
LARGEST_FACTOR = {1: 3, 2: 5, 3: 9}
SPLITS: tuple[Split, ...] = ("train", "heldout")


class GridTask:
    """Questions about pictures of coloured shapes, solved in 4 to 6 written steps that a rule can check.

    The sources take turns:
        total: ``red * 4 + square * 2 = ?``, a number; count, count, multiply, multiply, add.
        chain: ``red * 4 + square + blue = ?``, a number; count three times, multiply, add, add.
        compare: which of two products is larger, a letter; count, count, multiply, multiply, compare.
        modulo: ``( red + circle ) mod 3 = ?``, a small number; count, count, add, modulo.
    With the last two, an answer is often right in spite of a wrong step.

    The splits share no scene: a hash of the nine cells decides which split a scene belongs to, whatever the seed or
    difficulty, and each split draws until it has one of its own.

    Args:
        difficulty: 1, 2 or 3: the more, the stronger the pixel noise, the jitter in place and colour, and the larger
            the numbers to multiply with (up to 3, 5 or 9).
        seed: Another seed is another stream of prompts.
    """

    name = "grid"
    sources: tuple[str, ...] = ("total", "chain", "compare", "modulo")

    def __init__(self, difficulty: int = 2, seed: int = 0) -> None:
        if difficulty not in LOOKS:
            raise ValueError(f"difficulty must be one of {', '.join(map(str, LOOKS))}, not {difficulty!r}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, not {seed!r}")
        self.difficulty = difficulty
        self.seed = seed
        self.largest_factor = LARGEST_FACTOR[difficulty]

    def prompt(self, split: Split, index: int) -> Prompt:
        rng = self._rng(split, index)
        puzzle = self._puzzle(split, index, rng)
        image = draw(puzzle.scene, LOOKS[self.difficulty], rng)
        return Prompt(f"{self.name}/{split}/{index}", puzzle.source, puzzle.question, (image,), puzzle.answer)

    def puzzle(self, split: Split, index: int) -> Puzzle:
        """What ``prompt(split, index)`` asks, with its scene and the operations that solve it."""
        return self._puzzle(split, index, self._rng(split, index))

    def step_truth(self, prompt: Prompt, steps: Sequence[str]) -> list[StepTruth]:
        _, split, index = prompt.id.split("/")
        return check_steps(self.puzzle("train" if split == "train" else "heldout", int(index)), steps)

    def _rng(self, split: Split, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, SPLITS.index(split), index])

    def _puzzle(self, split: Split, index: int, rng: np.random.Generator) -> Puzzle:
        scene = sample_scene(rng)
        while split_of(scene) != split:
            scene = sample_scene(rng)
        return ask(self.sources[index % len(self.sources)], scene, self.largest_factor, rng)


def split_of(scene: Scene) -> Split:
    """The only split whose prompts may show the scene."""
    return SPLITS[hashlib.blake2s(repr(scene.cells).encode()).digest()[0] % 2]


def ask(source: str, scene: Scene, largest_factor: int, rng: np.random.Generator) -> Puzzle:
    """A question of a source about a scene."""
    first, second, third = (str(attribute) for attribute in rng.permutation(ATTRIBUTES)[:3])
    factors = rng.integers(2, largest_factor + 1, (6, 2))
    gaps = [abs(left * scene.count(first) - right * scene.count(second)) for left, right in factors]
    # Products near each other, where a slip can turn the comparison.
    left, right = map(int, factors[np.argmin(gaps)] if source == "compare" else factors[0])
    counts = (Count(first), Count(second))
    products = (Combine("*", Result(0), left), Combine("*", Result(1), right))
    if source == "total":
        question = f"Total: {first} * {left} + {second} * {right} = ?"
        return Puzzle(source, question, scene, (*counts, *products, Combine("+", Result(2), Result(3))))
    if source == "chain":
        question = f"Chain: {first} * {left} + {second} + {third} = ?"
        sums = (Combine("+", Result(3), Result(1)), Combine("+", Result(4), Result(2)))
        return Puzzle(source, question, scene, (*counts, Count(third), products[0], *sums))
    if source == "compare":
        question = f"Compare: {first} * {left} vs {second} * {right} = ? A more B less C same"
        return Puzzle(source, question, scene, (*counts, *products, Combine("vs", Result(2), Result(3))))
    modulus = int(rng.integers(3, 6))
    question = f"Modulo: ( {first} + {second} ) mod {modulus} = ?"
    operations = (*counts, Combine("+", Result(0), Result(1)), Combine("mod", Result(2), modulus))
    return Puzzle(source, question, scene, operations)
