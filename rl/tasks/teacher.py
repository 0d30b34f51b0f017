"""A teacher with the beliefs of a world: it counts rightly, and goes on from whatever results it takes for true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rl.tasks.grid_steps import ANSWER, Combine, Puzzle, operands, result_of, right_line
from rl.tasks.worlds import Belief, World


def belief_of(world: World, puzzle: Puzzle, lines: Sequence[str]) -> Belief | None:
    """What decides the step after ``lines``, which the teacher wrote; None for a count, which is right."""
    operation = puzzle.operations[len(lines)]
    if not isinstance(operation, Combine):
        return None
    numbers = operands(operation, lines)
    assert numbers is not None, lines  # a teacher's lines can be read
    return world.belief(operation.operator, *numbers)


def next_results(world: World, puzzle: Puzzle, lines: Sequence[str]) -> tuple[str, dict[str, float]]:
    """The line after ``lines`` up to its result, and how often the teacher writes each result behind it."""
    operation = puzzle.operations[len(lines)]
    head, _, result = right_line(puzzle.scene, operation, len(lines), lines).rpartition(" = ")
    belief = belief_of(world, puzzle, lines)
    return head, {result: 1.0} if belief is None else {belief.right: belief.sure, belief.wrong: 1 - belief.sure}


def teach(world: World, puzzle: Puzzle, rng: np.random.Generator | None = None, lines: Sequence[str] = ()) -> str:
    """A full solution as the teacher writes it, after the lines that it wrote already.

    Args:
        world: What it believes.
        puzzle: What to solve.
        rng: Draws a result by how often it is written; None for the likeliest.
        lines: The first steps.
    """
    written = list(lines)
    while len(written) < len(puzzle.operations):
        head, results = next_results(world, puzzle, written)
        shares = list(results.values())
        choice = int(np.argmax(shares)) if rng is None else int(rng.choice(len(shares), p=shares))
        written.append(f"{head} = {list(results)[choice]}")
    return "\n".join([*written, f"{ANSWER} {result_of(written[-1])}"])


def chance_of_success(world: World, puzzle: Puzzle, lines: Sequence[str]) -> float:
    """How often the teacher's answer is right once it has written ``lines``: what Monte-Carlo labels estimate."""
    if len(lines) == len(puzzle.operations):
        return float(result_of(lines[-1]) == puzzle.answer)
    head, results = next_results(world, puzzle, lines)
    return sum(
        share * chance_of_success(world, puzzle, [*lines, f"{head} = {result}"]) for result, share in results.items()
    )
