"""The written steps of the grid task: what each does, how a right one reads, and which written ones are right.

A solution is one line a step and a last line with the answer:

    1: red 1 0 2 = 3          counts by row, and their sum
    2: square 0 1 1 = 2
    3: 3 * 4 = 12             operands are results of earlier steps or numbers of the question
    4: 2 * 7 = 14
    5: 12 + 14 = 26
    Answer: 26
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rl.tasks.grid_scene import GRID, Scene
from rl.tasks.task import StepTruth

ANSWER = "Answer:"
_NAMES = {"*": "multiply", "+": "add", "mod": "modulo", "vs": "compare"}


@dataclass(frozen=True)
class Result:
    """An operand that is the result of an earlier step, counted from 0."""

    step: int


@dataclass(frozen=True)
class Count:
    """Count the cells that show a colour or shape, row by row."""

    attribute: str
    name: str = "count"


@dataclass(frozen=True)
class Combine:
    """Work out ``left operator right``, where an operand is an earlier result or a number of the question."""

    operator: str
    left: Result
    right: Result | int

    @property
    def name(self) -> str:
        return _NAMES[self.operator]


Operation = Count | Combine


@dataclass(frozen=True)
class Puzzle:
    """A question about a scene with the operations that answer it; the last one's result is the answer."""

    source: str
    question: str
    scene: Scene
    operations: tuple[Operation, ...]

    @property
    def answer(self) -> str:
        return written_answer(demonstrate(self)) or ""


def written_answer(text: str) -> str | None:
    """What stands behind the last ``Answer:`` of a text, if anything does."""
    _, found, answer = text.rpartition(ANSWER)
    return answer.split("\n")[0].strip() if found else None


def demonstrate(
    puzzle: Puzzle, slips: Mapping[str, float] | None = None, rng: np.random.Generator | None = None
) -> str:
    """The full text of a solution, ending in the answer line.

    Args:
        puzzle: What to solve.
        slips: How often a step of each operation goes wrong, by the operation's name, for operands of usual size; small
            operands slip less and large ones more. Later steps go on from what was written. None: no mistakes.
        rng: Draws the slips.
    """
    lines: list[str] = []
    for index, operation in enumerate(puzzle.operations):
        line = right_line(puzzle.scene, operation, index, lines)
        if slips and rng is not None and rng.random() < slips[operation.name] * _size(operation, line):
            line = _slip(operation, line, rng)
        lines.append(line)
    return "\n".join([*lines, f"{ANSWER} {result_of(lines[-1])}"])


def check_steps(puzzle: Puzzle, steps: Sequence[str]) -> list[StepTruth]:
    """The truth about each written line: right on its own means that it reads exactly as it should after the earlier
    lines. Whatever cannot be read, and every line beyond the last operation, is wrong."""
    truths: list[StepTruth] = []
    lines = [step.strip() for step in steps]
    so_far = True
    for index, line in enumerate(lines):
        if index < len(puzzle.operations):
            operation = puzzle.operations[index]
            name = operation.name
            own = line == right_line(puzzle.scene, operation, index, lines[:index]) != ""
        else:
            name, own = "surplus", False
        so_far = so_far and own
        truths.append(StepTruth(f"{puzzle.source}/{index + 1}:{name}", own, so_far))
    return truths


def right_line(scene: Scene, operation: Operation, index: int, before: Sequence[str]) -> str:
    """How a step reads if it is right given the lines before it; empty if those leave an operand unreadable."""
    if isinstance(operation, Count):
        rows = scene.rows(operation.attribute)
        return f"{index + 1}: {operation.attribute} {' '.join(map(str, rows))} = {sum(rows)}"
    numbers = operands(operation, before)
    if numbers is None:
        return ""
    left, right = numbers
    return f"{index + 1}: {left} {operation.operator} {right} = {combine(operation.operator, left, right)}"


def operands(operation: Combine, before: Sequence[str]) -> tuple[int, int] | None:
    """What a step works with, given the lines before it; None if those leave an operand unreadable."""
    words = [result_of(before[x.step]) if isinstance(x, Result) else str(x) for x in (operation.left, operation.right)]
    if not all(word.isascii() and word.isdigit() and len(word) < 9 for word in words):
        return None
    return int(words[0]), int(words[1])


def result_of(line: str) -> str:
    """What a line says behind its last equals sign; empty if it has none."""
    return line.rpartition(" = ")[2] if " = " in line else ""


def combine(operator: str, left: int, right: int) -> int | str:
    """The right result.

    >>> combine("*", 3, 4), combine("mod", 7, 4), combine("vs", 7, 4)
    (12, 3, 'A')
    """
    if operator == "*":
        return left * right
    if operator == "+":
        return left + right
    if operator == "mod":
        return left % right
    return "A" if left > right else "B" if left < right else "C"


def _size(operation: Operation, line: str) -> float:
    """How easily a right line slips, 1 for numbers of usual size: large ones go wrong more often than small ones."""
    numbers = [int(word) for word in line.split() if word.isdigit()]
    largest = numbers[-1] if isinstance(operation, Count) else max(numbers[:2]) / 3
    return float(np.clip(0.4 + 0.25 * largest, 0.4, 1.6))


def _slip(operation: Operation, line: str, rng: np.random.Generator) -> str:
    """The line with a likely mistake in it."""
    head, _, result = line.rpartition(" = ")
    if isinstance(operation, Count):
        words = head.split(" ")
        if rng.random() < 0.25:  # the rows are seen right and added up wrong
            return f"{head} = {_near(int(result), (-1, 1), rng)}"
        row = len(words) - GRID + int(rng.integers(GRID))
        words[row] = str(_near(int(words[row]), (-1, 1), rng, most=GRID))
        return f"{' '.join(words)} = {sum(map(int, words[-GRID:]))}"
    if operation.operator == "vs":
        return f"{head} = {rng.choice([letter for letter in 'ABC' if letter != result])}"
    right = int(head.split()[-1])
    if operation.operator == "mod":
        return f"{head} = {(int(result) + rng.integers(1, right)) % right}"
    offsets = (-1, 1, -right, right) if operation.operator == "*" and right > 0 else (-2, -1, 1, 2)
    return f"{head} = {_near(int(result), offsets, rng)}"


def _near(value: int, offsets: Sequence[int], rng: np.random.Generator, most: int = 10**6) -> int:
    """A wrong value near the right one, from 0 to ``most``."""
    return int(rng.choice([value + offset for offset in offsets if 0 <= value + offset <= most]))
