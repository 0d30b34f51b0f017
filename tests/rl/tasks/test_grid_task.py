"""The grid task: deterministic, split without overlap, and right about which written steps are right."""

from __future__ import annotations

import numpy as np
import pytest

from rl.tasks.grid import GridTask, split_of
from rl.tasks.grid_scene import ATTRIBUTES
from rl.tasks.grid_steps import ANSWER, Puzzle, check_steps, demonstrate, written_answer

MANY = 2000
CORRUPTED = {  # a wrong line for the first puzzle of each operation, made from the right one
    "count": lambda line: line.replace(line.split()[2], str(int(line.split()[2]) + 1), 1),
    "multiply": lambda line: f"{line}7",
    "add": lambda line: f"{line}1",
    "modulo": lambda line: line[:-1] + str(int(line[-1]) + 1),
    "compare": lambda line: line[:-1] + ("A" if line[-1] != "A" else "B"),
}


def lines_of(puzzle: Puzzle) -> list[str]:
    return demonstrate(puzzle).splitlines()[:-1]


def test_the_same_arguments_give_the_same_prompt() -> None:
    first, second = GridTask(seed=5).prompt("train", 17), GridTask(seed=5).prompt("train", 17)
    assert (first.id, first.question, first.answer) == (second.id, second.question, second.answer)
    assert first.images[0].tobytes() == second.images[0].tobytes()
    assert first.id == "grid/train/17"
    assert GridTask(seed=6).prompt("train", 17).images[0].tobytes() != first.images[0].tobytes()


def test_prompts_look_as_promised() -> None:
    task = GridTask()
    prompts = [task.prompt("heldout", index) for index in range(8)]
    assert [prompt.source for prompt in prompts] == [*task.sources, *task.sources]
    assert all(prompt.images[0].size == (84, 84) and prompt.images[0].mode == "RGB" for prompt in prompts)


@pytest.mark.parametrize("seed", [0, 10_000])
def test_no_scene_is_in_both_splits(seed: int) -> None:
    task = GridTask(seed=seed)
    train = {task.puzzle("train", index).scene for index in range(MANY)}
    heldout = {GridTask(difficulty=3).puzzle("heldout", index).scene for index in range(MANY)}
    assert not train & heldout
    assert {split_of(scene) for scene in train} == {"train"}
    assert {split_of(scene) for scene in heldout} == {"heldout"}


@pytest.mark.parametrize("difficulty", [1, 2, 3])
def test_demonstrations_without_slips_are_right_throughout(difficulty: int) -> None:
    task = GridTask(difficulty)
    for index in range(MANY):
        puzzle = task.puzzle("train", index)
        text = demonstrate(puzzle)
        assert written_answer(text) == puzzle.answer
        truths = check_steps(puzzle, text.splitlines()[:-1])
        assert 4 <= len(truths) == len(puzzle.operations) <= 6
        assert all(truth.own and truth.so_far for truth in truths)


def test_answers_are_what_the_question_says() -> None:
    """Question and scene alone, without the operations, give the same answers."""
    task = GridTask(difficulty=3)
    for index in range(MANY):
        puzzle = task.puzzle("heldout", index)
        words = puzzle.question.partition(": ")[2].split(" = ?")[0].split()
        counted = [str(puzzle.scene.count(word)) if word in ATTRIBUTES else word for word in words]
        expression = " ".join(counted)
        if puzzle.source == "compare":
            left, right = (eval(side) for side in expression.split(" vs "))
            assert puzzle.answer == ("A" if left > right else "B" if left < right else "C")
        else:
            assert puzzle.answer == str(eval(expression.replace("mod", "%")))


@pytest.mark.parametrize("operation", sorted(CORRUPTED))
def test_a_wrong_step_is_found_where_it_is(operation: str) -> None:
    task = GridTask()
    found = 0
    for index in range(40):
        prompt, puzzle = task.prompt("train", index), task.puzzle("train", index)
        for at, planned in enumerate(puzzle.operations):
            if planned.name != operation:
                continue
            lines = lines_of(puzzle)
            lines[at] = CORRUPTED[operation](lines[at])
            truths = task.step_truth(prompt, lines)
            assert not truths[at].own
            assert all(truth.own and truth.so_far for truth in truths[:at])
            assert not any(truth.so_far for truth in truths[at:])
            assert truths[at].kind == f"{puzzle.source}/{at + 1}:{operation}"
            found += 1
    assert found > 5


def test_steps_that_go_on_from_a_wrong_one_are_right_on_their_own() -> None:
    task = GridTask()
    puzzle = task.puzzle("train", 0)
    right = lines_of(puzzle)
    left, factor = int(right[0].split()[-1]) + 1, int(right[2].split()[3])
    wrong_count = " ".join([*right[0].split()[:-1], str(left)])
    other = right[3].split()[-1]
    lines = [wrong_count, right[1], f"3: {left} * {factor} = {left * factor}", right[3]]
    lines.append(f"5: {left * factor} + {other} = {left * factor + int(other)}")
    assert [truth.own for truth in check_steps(puzzle, lines)] == [False, True, True, True, True]
    assert not any(truth.so_far for truth in check_steps(puzzle, lines))


def test_slips_come_at_the_asked_rate_and_can_end_right_by_luck() -> None:
    task, rng = GridTask(), np.random.default_rng(0)
    slips = dict.fromkeys(CORRUPTED, 0.15)
    own, lucky = [], dict.fromkeys(task.sources, 0)
    for index in range(MANY):
        puzzle = task.puzzle("train", index)
        text = demonstrate(puzzle, slips, rng)
        truths = check_steps(puzzle, text.splitlines()[:-1])
        assert text.splitlines()[-1] == f"{ANSWER} {written_answer(text)}"
        own += [truth.own for truth in truths]
        lucky[puzzle.source] += written_answer(text) == puzzle.answer and not all(truth.own for truth in truths)
    assert 0.82 < np.mean(own) < 0.92
    assert lucky["compare"] > MANY / 4 * 0.1
    assert lucky["modulo"] > MANY / 4 * 0.02


@pytest.mark.parametrize(
    "line",
    [
        "",
        "=",
        " = ",
        "1: red",
        "1:",
        "1: = = =",
        "3: x * 4 = 12",
        "²: ² * ² = ²",
        "Answer: 7",
        "1: 9999999999999999 * 2 = 3",
    ],
)
def test_what_cannot_be_read_is_wrong_and_raises_nothing(line: str) -> None:
    task = GridTask()
    for index in range(4):
        truths = task.step_truth(task.prompt("heldout", index), [line] * 9)
        assert len(truths) == 9
        assert not any(truth.own or truth.so_far for truth in truths)
        assert truths[-1].kind.endswith("/9:surplus")


def test_surplus_steps_are_wrong() -> None:
    task = GridTask()
    lines = lines_of(task.puzzle("train", 3))
    truths = task.step_truth(task.prompt("train", 3), [*lines, lines[-1]])
    assert [truth.own for truth in truths] == [True] * len(lines) + [False]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="difficulty must be one of 1, 2, 3, not 4"):
        GridTask(difficulty=4)
    with pytest.raises(ValueError, match="seed"):
        GridTask(seed=-1)
