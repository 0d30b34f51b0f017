"""A user's verifier may do anything: what comes of it is a verdict, or one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rewards.records import Prompt
from rewards.users_code import UsersCodeError
from rewards.verification.answers import answer_reader
from rewards.verification.checked import CheckedVerifier
from rewards.verification.verdict import Answer, Verdict
from rl.config import Config
from rl.tasks.making import make_verifier
from tests.fixtures.builders import an_image

ANSWER = Answer("4", Prompt("p", "sums", "?", (), "4"))


class Shouting:
    """A verifier that reads answers in its own way."""

    def __call__(self, completion: str, reference: str) -> bool:
        return self.answer_of(completion) == reference

    def answer_of(self, completion: str) -> str:
        return completion.upper()


@pytest.mark.parametrize("verdict", [True, False, 1, 0.0, np.True_])
def test_a_verdict_is_true_or_false(verdict: Any) -> None:
    assert CheckedVerifier("mine", lambda completion, reference: verdict)("", "") is bool(verdict)


@pytest.mark.parametrize("answer", [None, "yes", -0.5, 2, [True]])
def test_anything_else_is_refused(answer: Any) -> None:
    with pytest.raises(UsersCodeError, match=r"^mine gave .* for an answer; allowed is true or false, a number"):
        CheckedVerifier("mine", lambda completion, reference: answer)("", "")


def test_what_it_raises_is_one_line() -> None:
    def failing(completion: str, reference: str) -> bool:
        raise KeyError("no\nsuch answer")

    with pytest.raises(UsersCodeError, match=r"^mine failed: KeyError: 'no\\nsuch answer'$"):
        CheckedVerifier("mine", failing)("", "")
    with pytest.raises(UsersCodeError, match=r"^mine gave array.* allowed is true or false"):
        CheckedVerifier("mine", lambda completion, reference: np.zeros(2))("", "")  # type: ignore[arg-type, return-value]


def test_an_error_that_stops_loops_or_cannot_say_its_words_is_one_line_too() -> None:
    class SpeechlessError(Exception):
        def __str__(self) -> str:
            raise ValueError

    class LeavingError(Exception):
        def __str__(self) -> str:
            raise SystemExit(0)

    for error, told in (
        (StopIteration("none"), "StopIteration: none"),
        (SpeechlessError(), "SpeechlessError: it does"),
        (LeavingError(), "LeavingError: it does"),
        (ValueError("x" * 10**6), f"ValueError: {'x' * 500}$"),
    ):

        def failing(completion: str, reference: str, error: BaseException = error) -> bool:
            raise error

        with pytest.raises(UsersCodeError, match=f"^mine failed: {told}"):
            CheckedVerifier("mine", failing)("", "")


def test_its_own_reader_of_answers_is_found_behind_it() -> None:
    config = Config.model_validate({"task": {"verifier": "tests.rewards.verification.test_checked_verifier:SHOUTING"}})
    verifier = make_verifier(config)
    assert verifier("yes", "YES") and answer_reader(config.task.verifier, verifier)("yes") == "YES"
    plain = CheckedVerifier("mine", lambda completion, reference: True)
    assert answer_reader("mine", plain)("so\nAnswer: 7") == "7"


def test_what_its_reader_of_answers_raises_is_one_line() -> None:
    class LastWord(Shouting):
        def answer_of(self, completion: str) -> str:
            return completion.split()[-1]

    read = answer_reader("mine", CheckedVerifier("mine", LastWord()))
    assert read("it is 7") == "7"
    with pytest.raises(UsersCodeError, match=r"^mine: answer_of failed: IndexError: list index out of range$"):
        read("")


@pytest.mark.parametrize("answer", [7, ["7"], b"7"])
def test_an_answer_is_text_or_none(answer: Any) -> None:
    class Counting(Shouting):
        def answer_of(self, completion: str) -> Any:
            return answer if completion else None

    read = answer_reader("mine", CheckedVerifier("mine", Counting()))
    assert read("") is None
    with pytest.raises(UsersCodeError, match=r"^mine: answer_of gave a \w+; allowed is text, or None"):
        read("7")


SHOUTING = Shouting()


class _Odd(BaseException):
    pass


def _exits(*_: object) -> bool:
    raise SystemExit(0)


def _raises_its_own_kind(*_: object) -> bool:
    raise _Odd("so it is")


@pytest.mark.parametrize(
    ("verify", "told"),
    [
        (_exits, "SystemExit"),
        (_raises_its_own_kind, "_Odd: so it is"),
        *((lambda *_, said=said: said, "allowed is") for said in (10**400, -(10**400), -0.5, float("nan"), None)),
        *((lambda *_, said=said: said, "allowed is") for said in ({"a": 10**400}, np.array([1, 0]))),
        (lambda *_: Verdict(True, float("nan")), "allowed is a Verdict"),
        *((lambda *_, parts=parts: Verdict(True, 0.5, parts), "allowed as parts") for parts in (None, {"a": None})),
        (lambda *_: Verdict(True, 0.5, {"a": float("nan")}), "allowed as parts"),
    ],
)
def test_whatever_it_does_there_is_a_line(verify: Callable[..., object], told: str) -> None:
    with pytest.raises(UsersCodeError, match=told):
        CheckedVerifier("task.verifier mine", verify)("text", "reference")


def test_ctrl_c_is_not_the_users_failure() -> None:
    def interrupted(completion: str, reference: str) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CheckedVerifier("task.verifier mine", interrupted)("text", "reference")


def test_what_it_does_to_its_row_changes_no_prompt() -> None:
    def changes(completion: str, reference: str, row: dict[str, Any]) -> bool:
        row["boxes"].append(3)
        row["images"][0].thumbnail((8, 8))
        return True

    prompt = Prompt("p", "sums", "?", (an_image(size=(56, 56)),), "4", columns={"boxes": [1, 2]})
    assert CheckedVerifier("task.verifier mine", changes).verdict(Answer("4", prompt)).correct
    assert prompt.columns == {"boxes": [1, 2]} and prompt.images[0].size == (56, 56)


def test_numbers_of_arrays_in_a_verdict_become_plain_ones() -> None:
    verdict = CheckedVerifier("mine", lambda *_: Verdict(True, np.array([0.5]), {"a": np.float32(1)})).verdict(ANSWER)
    assert verdict == Verdict(True, 0.5, {"a": 1.0}) and type(verdict.score) is type(verdict.parts["a"]) is float
