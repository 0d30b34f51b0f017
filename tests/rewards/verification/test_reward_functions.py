"""Functions that were written for Sieve, for verl and for TRL, unchanged, and what they are given."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from trl.rewards import accuracy_reward, get_soft_overlong_punishment, reasoning_accuracy_reward, think_format_reward

from rewards.users_code import UsersCodeError
from rewards.verification.added_rewards import users_reward
from rewards.verification.checked import CheckedVerifier
from rewards.verification.verdict import Answer, Verdict
from tests.fixtures.builders import a_prompt

PROMPT = replace(
    a_prompt("boxes/3", "boxes", r"\frac{1}{2}"),
    columns={"solution": r"$\frac{1}{2}$", "box": [0, 0, 4, 4], "data_source": "hiyouga/geometry3k", "answer": "raw"},
)
GIVEN: list[dict[str, Any]] = []
"""What the functions below were called with."""


def remembered(**given: Any) -> float:
    GIVEN.append(given)
    return 1.0


def verdict(function: Any, text: str = r"so \boxed{\frac{1}{2}}", tokens: tuple[int, ...] = ()) -> Verdict:
    return CheckedVerifier("mine", function).verdict(Answer(text, PROMPT, tokens))


# Sieve's own


def own(completion: str, reference: str) -> float:
    return remembered(completion=completion, reference=reference)


def own_with_a_choice(completion: str, reference: str, tolerance: float = 0.5) -> float:
    return remembered(completion=completion, reference=reference, tolerance=tolerance)


def own_with_a_row(completion: str, reference: str, row: dict[str, Any]) -> float:
    return remembered(**row)


def own_with_a_third(completion: str, reference: str, prompt: dict[str, Any]) -> float:
    return remembered(**prompt)


def own_with_a_row_to_choose(completion: str, reference: str, tolerance: float = 0.5, *, row: Any = None) -> float:
    return remembered(**row)


class Own:
    def __call__(self, completion: str, reference: str, row: dict[str, Any]) -> float:
        return remembered(**row)


@pytest.mark.parametrize("function", [own, own_with_a_choice])
def test_a_function_of_two_gets_text_and_reference(function: Any) -> None:
    GIVEN.clear()
    assert verdict(function, "text") == Verdict(True, 1.0)
    assert (GIVEN[0]["completion"], GIVEN[0]["reference"]) == ("text", r"\frac{1}{2}")
    assert GIVEN[0].get("tolerance", 0.5) == 0.5


@pytest.mark.parametrize("function", [own_with_a_row, own_with_a_third, own_with_a_row_to_choose, Own()])
def test_a_function_that_wants_it_gets_the_row(function: Any) -> None:
    GIVEN.clear()
    assert verdict(function) == Verdict(True, 1.0)
    (row,) = GIVEN
    assert row == {
        "id": "boxes/3",
        "source": "boxes",
        "question": PROMPT.question,
        "answer": r"\frac{1}{2}",
        "images": PROMPT.images,
        "solution": r"$\frac{1}{2}$",
        "box": [0, 0, 4, 4],
        "data_source": "hiyouga/geometry3k",
    }


# verl's: verl.utils.reward_score.*, and what its documentation has users write


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> Any:
    remembered(data_source=data_source, solution_str=solution_str, ground_truth=ground_truth, extra_info=extra_info)
    return 1.0 if ground_truth in solution_str else 0.0


def compute_score_of_keywords(data_source: str, solution_str: str, ground_truth: str, **kwargs: Any) -> Any:
    return {"score": 1.0 if ground_truth in solution_str else -1.0, "acc": ground_truth in solution_str, "pred": "x"}


def compute_score_of_two(solution_str: str, ground_truth: str, method: str = "strict") -> float:
    return 0.1 if ground_truth not in solution_str else 1.0


def test_verls_functions_are_called_as_verl_does() -> None:
    GIVEN.clear()
    assert verdict(compute_score) == Verdict(True, 1.0)
    (given,) = GIVEN
    assert given["data_source"] == "hiyouga/geometry3k" and given["ground_truth"] == r"\frac{1}{2}"
    assert given["solution_str"] == r"so \boxed{\frac{1}{2}}"
    assert given["extra_info"]["box"] == [0, 0, 4, 4] and given["extra_info"]["images"] == PROMPT.images
    assert verdict(compute_score, "no") == Verdict(False, 0.0)


def test_verls_extra_info_is_a_column() -> None:
    GIVEN.clear()
    prompt = replace(PROMPT, columns={"extra_info": {"index": 7, "split": "train"}})
    CheckedVerifier("mine", compute_score).verdict(Answer("", prompt))
    assert GIVEN[0]["extra_info"]["index"] == 7 and GIVEN[0]["data_source"] == "boxes"


@pytest.mark.parametrize(
    ("function", "text", "expected"),
    [
        (compute_score_of_keywords, r"\frac{1}{2}", Verdict(True, 1.0)),
        (compute_score_of_keywords, "no", Verdict(False, -1.0)),
        (compute_score_of_two, r"\frac{1}{2}", Verdict(True, 1.0)),
        (compute_score_of_two, "no", Verdict(False, 0.1)),
    ],
)
def test_verls_functions_say_more_than_a_number(function: Any, text: str, expected: Verdict) -> None:
    assert verdict(function, text) == expected


# TRL's: of texts, of messages, of columns, of tokens


def of_texts(completions: list[str], **kwargs: Any) -> list[float]:
    return [float("frac" in completion) for completion in completions]


def of_lengths(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [min(len(completion) / 100, 1.0) for completion in completions]


def of_messages(prompts: Any, completions: Any, **columns: Any) -> list[float]:
    contents = [completion[0]["content"] for completion in completions]
    assert prompts[0][-1]["role"] == "user"
    return [1.0 if re.search(r"\\boxed", content) else 0.0 for content in contents]


def of_columns(completions: list[str], solution: list[str], box: list[Any], **kwargs: Any) -> list[float]:
    return [float(s.strip("$") in c and b[2] == 4) for c, s, b in zip(completions, solution, box, strict=True)]


def of_columns_alone(prompts: list[str], completions: list[str], solution: list[str]) -> list[float]:
    return [float(solution[0].strip("$") in completions[0])]


RIGHT, WRONG = r"so $\boxed{\frac{1}{2}}$", "so 7"


@pytest.mark.parametrize(
    ("function", "right", "wrong"),
    [
        (of_texts, 1.0, 0.0),
        (of_lengths, len(RIGHT) / 100, len(WRONG) / 100),
        (of_messages, 1.0, 0.0),
        (of_columns, 1.0, 0.0),
        (of_columns_alone, 1.0, 0.0),
        (accuracy_reward, 1.0, 0.0),
    ],
)
def test_trls_functions_are_called_as_trl_does(function: Any, right: float, wrong: float) -> None:
    assert verdict(function, RIGHT) == Verdict(right >= 1, right)
    assert verdict(function, WRONG) == Verdict(wrong >= 1, wrong)


def test_functions_that_ship_with_trl_say_what_they_say_there() -> None:
    thought = "<think>\nx\n</think>\n" + RIGHT
    assert verdict(think_format_reward, thought).score == 1.0
    assert verdict(think_format_reward, RIGHT).score == verdict(think_format_reward, "").score == 0.0
    assert verdict(reasoning_accuracy_reward, thought).score == 1.0
    punish = users_reward("mine", get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20))
    assert [punish(Answer("", PROMPT, (1,) * n)) for n in (80, 90, 120)] == [0, -0.5, -1]


def of_nothing(completions: list[str], **kwargs: Any) -> list[float | None]:
    return [None] * len(completions)


def test_none_of_trl_is_no_reward_and_no_verdict() -> None:
    assert users_reward("mine", of_nothing)(Answer("", PROMPT)) is None
    with pytest.raises(UsersCodeError, match=r"^mine gave None for an answer; allowed is a finite number"):
        verdict(of_nothing)


def failing(completions: list[str], **kwargs: Any) -> list[float]:
    raise KeyError("no\nsuch column")


def with_a_defect(completions: list[str], **kwargs: Any) -> list[float]:
    return [len(completion) + "1" for completion in completions]  # type: ignore[operator]


def of_a_column_that_is_not_there(completions: list[str], difficulty: list[str]) -> list[float]:
    return [0.0]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (failing, "mine failed: KeyError: 'no"),
        (with_a_defect, "mine failed: TypeError: unsupported operand"),
        (of_a_column_that_is_not_there, "mine failed: TypeError: of_a_column_that_is_not_there() missing 1 required"),
        (lambda completions, **_: 1.0, "gave 1.0 for one completion; allowed is a list of one number"),
        (lambda completions, **_: [1.0, 2.0], "gave [1.0, 2.0] for one completion; allowed"),
        (lambda completions, **_: ["a"], "mine gave 'a' for an answer; allowed is a finite number"),
        (lambda data_source, solution_str, ground_truth, extra_info: "1", "mine gave '1' for an answer; allowed"),
        (lambda solution_str, ground_truth: {"acc": True}, "there is no part that has a weight"),
    ],
)
def test_what_goes_wrong_is_one_line(function: Any, words: str) -> None:
    with pytest.raises(UsersCodeError) as caught:
        verdict(function)
    assert words in str(caught.value) and "\n" not in str(caught.value)
