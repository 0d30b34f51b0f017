"""Final answers as self-consistency counts them."""

from __future__ import annotations

import pytest

from rewards.verification.answers import answer_of, answer_reader, normal_form
from rewards.verification.verifiers import boxed, exact
from rl.tasks.grid import GridTask
from rl.tasks.grid_steps import demonstrate


@pytest.mark.parametrize(
    ("completion", "marker", "answer"),
    [
        ("1: red 1 0 2 = 3\nAnswer: 3", "Answer:", "3"),
        ("Answer: 4\nno, Answer: 5", "Answer:", "5"),
        ("1: red 1 0 2 = 3", "Answer:", None),
        ("Answer:", "Answer:", None),
        ("", "Answer:", None),
        (r"so \boxed{12} apples", None, "12"),
        (r"so \boxed{\frac{1}{2}}", None, r"\frac{1}{2}"),
        (r"Answer: 3, so \boxed{4}", "Answer:", "4"),
        (r"Answer: 3, so \boxed{4", "Answer:", None),
        ("that makes 7 or 12", None, "12"),
        ("It is the\nLeft one.", None, "left one"),
        ("Thus: B\n(I think)", "Thus:", "b"),
        ("Thus B", "Thus:", None),
    ],
)
def test_where_the_final_answer_is(completion: str, marker: str | None, answer: str | None) -> None:
    assert answer_of(completion, marker) == answer


@pytest.mark.parametrize(
    "spellings",
    [
        ["4", " 4 ", "4.", "4.0", "+4", "$4$", "04", "4.00"],
        ["1250.5", "1,250.5", "1250.50", "$1,250.50"],
        ["-3", "-3.0", " -3."],
        ["0", "0.0", "00"],
        ["the left one", "The  left\tone", "the left one."],
    ],
)
def test_spellings_of_one_answer_are_one_text(spellings: list[str]) -> None:
    assert {normal_form(spelling) for spelling in spellings} == {spellings[0]}


def test_other_answers_stay_apart() -> None:
    answers = ["4", "40", "0.4", "-4", "4 cm", "1,2", "12", "1/2", "a", "b"]
    assert len({normal_form(answer) for answer in answers}) == len(answers)


def test_solutions_of_the_grid_task_have_its_reference_as_their_answer() -> None:
    task, read = GridTask(), answer_reader(exact)
    for index in range(40):
        puzzle = task.puzzle("heldout", index)
        assert read(demonstrate(puzzle)) == normal_form(puzzle.answer)


def test_a_verifier_may_bring_its_own_reader() -> None:
    def last_word(completion: str, reference: str) -> bool:
        return completion.split()[-1] == reference

    assert answer_reader(last_word, None)("it is 7 maybe") == "7"
    last_word.answer_of = lambda completion: completion.split()[-1]  # type: ignore[attr-defined]
    assert answer_reader(last_word, None)("it is 7 maybe") == "maybe"
    assert answer_reader(boxed, None)(r"\boxed{7}") == "7"
