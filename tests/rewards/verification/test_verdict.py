"""What a function of the user's gives, as a verdict: right or wrong, a score, parts of it, or one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rewards.users_code import UsersCodeError
from rewards.verification.checked import CheckedVerifier
from rewards.verification.verdict import Answer, Verdict, read_verdict, verdict_of
from rewards.verification.verifiers import VERIFIERS
from tests.fixtures.builders import a_prompt

HALF = {"format": 0.5}


@pytest.mark.parametrize(
    ("said", "weights", "expected"),
    [
        (True, {}, Verdict(True, 1.0)),
        (False, {}, Verdict(False, 0.0)),
        (1, {}, Verdict(True, 1.0)),
        (0.0, {}, Verdict(False, 0.0)),
        (0.999999, {}, Verdict(False, 0.999999)),
        (np.float32(0.5), {}, Verdict(False, 0.5)),
        (np.True_, {}, Verdict(True, 1.0)),
        (torch.tensor(0.25), {}, Verdict(False, 0.25)),
        ({"accuracy": 1, "format": 0.5}, {}, Verdict(False, 0.75, {"accuracy": 1.0, "format": 0.5})),
        ({"accuracy": 1, "format": 0.5}, HALF, Verdict(False, 1.25 / 1.5, {"accuracy": 1.0, "format": 0.5})),
        ({"accuracy": 1, "format": 1}, HALF, Verdict(True, 1.0, {"accuracy": 1.0, "format": 1.0})),
        ({"accuracy": 0, "format": 1}, {"format": 0}, Verdict(False, 0.0, {"accuracy": 0.0, "format": 1.0})),
        ({"accuracy": 1, "format": 0}, {"format": 0}, Verdict(True, 1.0, {"accuracy": 1.0, "format": 0.0})),
        ({"iou": 0.6, "correct": True}, {}, Verdict(True, 0.6, {"iou": 0.6})),
        ({"iou": 1.0, "correct": False}, {}, Verdict(False, 1.0, {"iou": 1.0})),
        ({"score": 0.3, "iou": 0.6}, {}, Verdict(False, 0.3, {"iou": 0.6})),
        ({"score": True}, {}, Verdict(True, 1.0)),
        ({"iou": np.float64(0.5), "correct": np.True_}, {}, Verdict(True, 0.5, {"iou": 0.5})),
        (Verdict(True, 0.2, {"x": 0.2}), {}, Verdict(True, 0.2, {"x": 0.2})),
    ],
)
def test_a_verdict_is_read_as_it_was_meant(said: Any, weights: dict[str, float], expected: Verdict) -> None:
    assert read_verdict(said, weights) == expected
    assert CheckedVerifier("mine", lambda completion, reference: said, weights).verdict(ANSWER) == expected


@pytest.mark.parametrize("weights", [[0.1, 0.2, 0.7], [0.3, 0.3, 0.3], [1e-3, 7, 1 / 3]])
def test_parts_at_1_are_exactly_right_whatever_they_weigh(weights: list[float]) -> None:
    parts = dict.fromkeys("abc", 1)
    assert read_verdict(parts, dict(zip("abc", weights, strict=True))).correct


@pytest.mark.parametrize(
    ("said", "weights", "words"),
    [
        (None, {}, "gave None for an answer; allowed is true or false, a number from 0 to 1, or such numbers by name"),
        ("yes", {}, "gave 'yes' for an answer; allowed is true or false, a number from 0 to 1"),
        (2, {}, "gave 2 for an answer; allowed"),
        (-0.1, {}, "gave -0.1 for an answer; allowed"),
        (float("nan"), {}, "gave nan for an answer; allowed"),
        ([True], {}, "gave [True] for an answer; allowed"),
        ({"iou": 1.5}, {}, "iou is 1.5; allowed is a number from 0 to 1"),
        ({"iou": "high"}, {}, "iou is 'high'; allowed is a number from 0 to 1"),
        ({"iou": 0.5, "correct": "yes"}, {}, "correct is 'yes'; allowed is true or false"),
        ({"iou": 0.5, "correct": 0.5}, {}, "correct is 0.5; allowed is true or false"),
        ({}, {}, "there is no part that has a weight"),
        ({"correct": True}, {}, "there is no part that has a weight"),
        ({"a": 1}, {"a": 0}, "there is no part that has a weight"),
        ({"a": 1}, {"b": 1}, "task.weights names 'b'; allowed are its parts, a"),
        (0.5, {"b": 1}, "allowed is numbers by name, since task.weights is set"),
        (True, {"b": 1}, "allowed is numbers by name, since task.weights is set"),
    ],
)
def test_what_is_no_verdict_is_one_line(said: Any, weights: dict[str, float], words: str) -> None:
    with pytest.raises(UsersCodeError) as caught:
        CheckedVerifier("mine", lambda completion, reference: said, weights).verdict(ANSWER)
    message = str(caught.value)
    assert message.startswith("mine gave ") and words in message and "\n" not in message


@pytest.mark.parametrize("name", VERIFIERS)
def test_verifiers_that_ship_say_right_or_wrong_and_no_more(name: str) -> None:
    right = verdict_of(VERIFIERS[name], Answer(r"Answer: \boxed{4}" if name == "boxed" else "Answer: 4", ANSWER.prompt))
    wrong = verdict_of(VERIFIERS[name], Answer("Answer: 5", ANSWER.prompt))
    assert (right, wrong) == ((Verdict(False) if name == "multiple_choice" else Verdict(True)), Verdict(False)) or (
        name == "multiple_choice" and right.score is None
    )


ANSWER = Answer("so\nAnswer: 4", a_prompt())
