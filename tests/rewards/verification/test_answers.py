"""What samples vote for: answers that the verifier holds equal are one candidate."""

from __future__ import annotations

from functools import partial

import pytest

from rewards.measuring.strategies import vote
from rewards.verification.answers import answer_of, answer_reader, vote_reader
from rewards.verification.verifiers import VERIFIERS, exact, numeric
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
        (r"so \boxed{\frac{1}{2}}", None, "0.5"),
        (r"Answer: 3, so \boxed{4}", "Answer:", "4"),
        (r"Answer: 3, so \boxed{4", "Answer:", None),
        ("that makes 7 or 12", None, "12"),
        ("It is the\nLeft one.", None, "leftone"),
        ("Thus: B\n(I think)", "Thus:", "B"),
        ("Thus B", "Thus:", None),
        ("<think>Thus: B</think>Thus: C", "Thus:", "C"),
    ],
)
def test_where_the_final_answer_is_for_a_verifier_of_ones_own(
    completion: str, marker: str | None, answer: str | None
) -> None:
    assert answer_of(completion, marker) == answer


@pytest.mark.parametrize(
    ("name", "completions", "candidates"),
    [
        (
            "multiple_choice",
            ["B", "(B)", "**B**", r"\boxed{B: 12 cm}", "Answer: b.", "Answer: C", "Ответ: B"],
            "BBBBBCB",
        ),
        ("multiple_choice", ["Answer: 12 cm", "Answer: 12  CM.", "Answer: 13 cm"], ["12cm", "12cm", "13cm"]),
        ("numeric", ["1/2", "Answer: 0.5", r"\boxed{\frac12}", "50%", "Answer: 5", "Answer: half"], "xxxxyz"),
        ("numeric", ["Answer: 12 cm", "Answer: 12.", "Answer: 12 centimetres", "Answer: 13"], "xxxy"),
        ("numeric", ["Answer: 12 cm", "Answer: 12 m", "Answer: 1,200"], "xyz"),
        ("numeric", ["The answer is 12!", "#### 12", "<answer>12.0</answer>", "-12"], "xxxy"),
        ("latex", ["Answer: 1/2", "The answer is 0.5.", r"\boxed{\frac{2}{4}}", r"$\dfrac{1}{2}$"], "xxxx"),
        ("latex", ["Answer: (x+1)^2", r"\boxed{x^2+2x+1}", "Answer: x^2+1", "Answer: $x^2 + 1$."], "xxyy"),
        ("latex", [r"\boxed{1/3}", "Answer: 0.3333333", "Answer: 0.33", r"\boxed{x = 1/3}"], "xxyx"),
        ("latex", ["Answer: 0.0000001", "Answer: 0.0000002", r"\boxed{10^{-7}}"], "xyx"),
        ("latex", ["Answer: Isosceles.", r"\boxed{\text{isosceles}}", "Answer: silent", "Answer: listen"], "xxyz"),
        ("latex", ["Answer: 12345678901234567890", "Answer: 12345678901234567891"], "xy"),
        ("exact", ["Answer: 4", "Answer: **4**", "Answer: 4.0", "Answer: a", "Answer: A"], "xxyab"),
        ("boxed", ["4", r"\boxed{4}", "Answer: 4.", "4.0"], "xxxy"),
    ],
)
def test_answers_that_the_verifier_holds_equal_are_one_candidate(
    name: str, completions: list[str], candidates: list[str]
) -> None:
    votes = vote_reader(name, VERIFIERS[name])(completions)
    assert None not in votes
    assert [votes.index(one) for one in votes] == [candidates.index(one) for one in candidates]


def test_what_splits_no_longer_costs_the_majority() -> None:
    samples = ["Answer: C", "B", "(B)", "**B**", "Answer: C", r"\boxed{B: 12 cm}"]
    assert vote(vote_reader("multiple_choice", VERIFIERS["multiple_choice"])(samples)) == 1


def test_a_sample_without_an_answer_has_no_vote() -> None:
    votes = vote_reader("numeric", numeric)(["Answer: 4", "none", r"\boxed{4", "<think>4"])
    assert votes == ["4", None, None, None]


def test_candidates_are_as_far_apart_as_the_tolerance_says() -> None:
    completions = ["Answer: 100", "Answer: 103", "Answer: 120"]
    near = vote_reader("numeric", partial(numeric, tolerance=0.05))(completions)
    assert near == ["100", "100", "120"] and vote_reader("numeric", numeric)(completions) == ["100", "103", "120"]


def test_solutions_of_the_grid_task_have_its_reference_as_their_answer() -> None:
    task, read = GridTask(), answer_reader("exact", exact)
    for index in range(40):
        puzzle = task.puzzle("heldout", index)
        assert read(demonstrate(puzzle)) == puzzle.answer


def test_a_verifier_may_bring_its_own_reader() -> None:
    def last_word(completion: str, reference: str) -> bool:
        return completion.split()[-1] == reference

    assert answer_reader("mine", last_word, None)("it is 7 maybe") == "7"
    last_word.answer_of = lambda completion: completion.split()[-1]  # type: ignore[attr-defined]
    assert answer_reader("mine", last_word, None)("it is 7 maybe") == "maybe"
    assert vote_reader("mine", last_word, None)(["it is 7", "7 it is", "7"]) == ["7", "is", "7"]


def test_a_verifier_of_ones_own_is_not_asked_about_another_answer() -> None:
    def strict(completion: str, reference: str) -> bool:
        raise AssertionError("a reference that is none of the task's")

    assert vote_reader("mine", strict)(["Answer: 1/2", "Answer: 0.5", "Answer: 12 cm"]) == ["0.5", "0.5", "12 cm"]
