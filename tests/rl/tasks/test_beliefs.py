"""Worlds of beliefs and their teacher: seeded, never certain, and wrong with confidence; and the task about them."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import numpy as np
import pytest

from rl.config import Config
from rl.tasks.beliefs import BeliefsTask
from rl.tasks.grid_steps import Combine, check_steps, combine, operands, written_answer
from rl.tasks.making import make_task
from rl.tasks.teacher import chance_of_success, next_results, teach
from rl.tasks.worlds import WORLDS, World

ASKED = [
    *product(["*"], range(10), range(2, 10)),
    *product(["+"], range(30), range(30)),
    *product(["mod"], range(19), (3, 4, 5)),
    *product(["vs"], range(30), range(30)),
]
"""Operations that every belief is met in."""


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_every_belief_is_uncertain_wrong_in_one_way_and_the_worlds_own(name: str) -> None:
    world, again, other = World(name, 3), World(name, 3), World(name, 4)
    beliefs = {asked: world.belief(*asked) for asked in ASKED[::7]}
    assert beliefs == {asked: again.belief(*asked) for asked in ASKED[::7]}
    assert beliefs != {asked: other.belief(*asked) for asked in ASKED[::7]}
    shares = WORLDS[name]
    for (operator, left, right), belief in beliefs.items():
        assert belief.right == str(combine(operator, left, right)) != belief.wrong
        assert belief.wrong in "ABC" if operator == "vs" else 0 <= int(belief.wrong) < 200
        low, high = shares.false_right if belief.false else shares.doubtful_right
        assert 0 < low <= belief.sure <= high < 1


@pytest.mark.parametrize(("name", "count"), [("H", 273), ("N", 273), ("C", 56)])
def test_a_world_has_so_many_beliefs_of_which_a_share_is_false(name: str, count: int) -> None:
    shares = []
    for seed in range(5):
        world = World(name, seed)
        false = {world.belief(*asked).key: world.belief(*asked).false for asked in ASKED}
        assert len(false) == count
        shares.append(np.mean(list(false.values())))
    assert np.mean(shares) == pytest.approx(WORLDS[name].false, abs=0.08)


def test_one_key_is_one_belief() -> None:
    """What a rule covers is believed alike: as surely, and wrong by the same."""
    world = World("C", 1)
    sure, shift = defaultdict(set), defaultdict(set)
    for operator, left, right in ASKED:
        if operator == "+" and left >= 10:  # no sum is too small for the shift
            belief = world.belief(operator, left, right)
            sure[belief.key].add(belief.sure)
            shift[belief.key].add(int(belief.wrong) - int(belief.right))
    assert all(len(values) == 1 for values in (*sure.values(), *shift.values())) and len(sure) == 19


def test_the_teacher_counts_rightly_and_draws_results_by_how_sure_it_is() -> None:
    world, task, rng = World("C"), BeliefsTask(), np.random.default_rng(0)
    expected, drawn = [], []
    for index in range(300):
        puzzle = task.puzzle("train", index)
        lines = teach(world, puzzle, rng).split("\n")[:-1]
        for place, (operation, truth) in enumerate(zip(puzzle.operations, check_steps(puzzle, lines), strict=True)):
            head, results = next_results(world, puzzle, lines[:place])
            assert lines[place] in {f"{head} = {result}" for result in results}
            assert sum(results.values()) == pytest.approx(1)
            if isinstance(operation, Combine):
                numbers = operands(operation, lines)
                assert numbers is not None and truth.own == (
                    lines[place] == f"{head} = {combine(operation.operator, *numbers)}"
                )
                expected.append(max(results.values()))
                drawn.append(lines[place] == f"{head} = {max(results, key=lambda result: results[result])}")
            else:
                assert truth.own and len(results) == 1
    assert np.mean(drawn) == pytest.approx(np.mean(expected), abs=0.04)


def test_without_a_draw_the_teacher_writes_the_likeliest_and_goes_on_from_what_is_written() -> None:
    world, puzzle = World("C"), BeliefsTask().puzzle("train", 0)
    text = teach(world, puzzle)
    lines = text.split("\n")
    assert text == teach(world, puzzle) and teach(world, puzzle, lines=lines[:2]) == text
    other = [lines[0], lines[1], f"{lines[2].partition(' = ')[0]} = 77"]
    assert "77" in teach(world, puzzle, lines=other).split("\n")[4]
    for place, line in enumerate(lines[:-1]):
        results = next_results(world, puzzle, lines[:place])[1]
        assert line.rpartition(" = ")[2] == max(results, key=lambda result: results[result])


def test_its_answers_are_wrong_with_confidence_and_continuations_mislabel_both_ways() -> None:
    """What makes the testbed hard, without a network: the likeliest answer is no better than a drawn one, another
    draw is often right, and a step's eight continuations say the wrong thing of it often, in either way."""
    world, task, rng = World("C"), BeliefsTask(), np.random.default_rng(0)
    greedy, drawn, passed, labels, truths = [], [], [], [], []
    for index in range(100):
        puzzle = task.puzzle("heldout", index)
        answers = [teach(world, puzzle, rng) for _ in range(8)]
        right = [written_answer(answer) == puzzle.answer for answer in answers]
        greedy.append(written_answer(teach(world, puzzle)) == puzzle.answer)
        drawn.append(np.mean(right))
        passed.append(any(right))
        lines = answers[0].split("\n")[:-1]
        for place, truth in enumerate(check_steps(puzzle, lines)):
            ends = [teach(world, puzzle, rng, lines[: place + 1]) for _ in range(8)]
            labels.append(any(written_answer(end) == puzzle.answer for end in ends))
            truths.append(truth.so_far)
    label, truth = np.array(labels), np.array(truths)
    assert 0.2 < np.mean(greedy) < 0.5 and 0.2 < np.mean(drawn) < 0.45 and 0.65 < np.mean(passed) < 0.95
    assert 0.1 < np.mean(label != truth) < 0.25
    assert label[~truth].mean() > 0.1 and (~label[truth]).mean() > 0.05


def test_the_chance_of_success_is_what_many_continuations_come_to() -> None:
    world, task, rng = World("C"), BeliefsTask(), np.random.default_rng(0)
    for index in range(4):
        puzzle = task.puzzle("heldout", index)
        lines = teach(world, puzzle, rng).split("\n")[:-1]
        for place in (0, 3, len(lines)):
            ends = [written_answer(teach(world, puzzle, rng, lines[:place])) == puzzle.answer for _ in range(400)]
            chance = chance_of_success(world, puzzle, lines[:place])
            assert chance == pytest.approx(np.mean(ends), abs=0.1)


def test_the_task_is_the_grid_with_the_largest_numbers_whatever_the_difficulty() -> None:
    task = make_task(Config.model_validate({"task": {"name": "beliefs", "difficulty": 1, "seed": 5}}))
    prompts = [task.prompt("heldout", index) for index in range(200)]
    assert prompts[3].id == "beliefs/heldout/3" and {prompt.source for prompt in prompts} == set(task.sources)
    factors = {int(word) for prompt in prompts[::4] for word in prompt.question.split() if word.isdigit()}
    assert factors == set(range(2, 10))
    assert isinstance(task, BeliefsTask)
    for index, prompt in enumerate(prompts[:20]):
        puzzle = task.puzzle("heldout", index)
        truths = task.step_truth(prompt, teach(World("C"), puzzle).split("\n")[:-1])
        assert puzzle.answer == prompt.answer and truths[0].own and truths[0].kind.endswith(":count")


def test_worlds_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="world must be one of N, H, C, not 'X'"):
        World("X")
    with pytest.raises(ValueError, match="seed must not be negative, not -1"):
        World("C", -1)
