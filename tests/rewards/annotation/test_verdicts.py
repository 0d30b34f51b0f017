"""What a judge is asked, and how its answer is read."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.annotation.verdicts import NoVerdictError, answer_format, parse_verdict, question, step_verdicts
from tests.fixtures.builders import a_prompt


def test_the_question_holds_the_numbered_steps_and_the_answer_only_if_asked() -> None:
    prompt = a_prompt("prompt", answer="forty-two")
    text = question(prompt, ["I see 2 cats.\n\n", " 2 + 2 = 4\n"])
    assert "Question: What is prompt?" in text
    assert "\nStep 1: I see 2 cats.\nStep 2: 2 + 2 = 4\n" in text
    assert "forty-two" not in text
    assert "Right answer: forty-two" in question(prompt, ["a"], with_answer=True)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"first_wrong_step": 2}', 2),
        ('{"first_wrong_step": 0}', 0),
        ('  {"first_wrong_step":3}\n\n', 3),
        ('Step 1 is right.\nStep 2 is not.\n{"first_wrong_step": 2}', 2),
        ('So {x} it is. {"first_wrong_step": 1}', 1),
        ('```json\n{\n  "first_wrong_step": 1\n}\n```\n', 1),
        ('First {"first_wrong_step": 1}, no: {"first_wrong_step": 2}', 2),
    ],
)
def test_readable_answers(answer: str, found: int) -> None:
    assert parse_verdict(answer, 3) == found


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        (" \n\n", "empty"),
        ("```", "empty"),
        ("2", "unparseable"),
        ("none", "unparseable"),
        ("Step 2 is wrong.", "unparseable"),
        ('{"first_wrong_step": 2', "unparseable"),
        ('{"first_wrong_step": 2} I think', "unparseable"),
        ('{"first_wrong_step": 2}}', "unparseable"),
        ('{"first_wrong_step": "2"}', "unparseable"),
        ('{"first_wrong_step": 2.0}', "unparseable"),
        ('{"first_wrong_step": true}', "unparseable"),
        ('{"first_wrong_step": null}', "unparseable"),
        ('{"first_wrong_step": NaN}', "unparseable"),
        ('{"wrong": 2}', "unparseable"),
        ('{"first_wrong_step": 2, "sure": 1}', "unparseable"),
        ('[{"first_wrong_step": 2}]', "unparseable"),
        ("{" * 100_000, "unparseable"),
        ("[" * 100_000, "unparseable"),
        ("9" * 10_000, "unparseable"),
        ('{"first_wrong_step": 4}', "out_of_range"),
        ('{"first_wrong_step": -1}', "out_of_range"),
    ],
)
def test_unreadable_answers(answer: str, reason: str) -> None:
    with pytest.raises(NoVerdictError) as caught:
        parse_verdict(answer, 3)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


@given(st.text())
def test_any_text_is_read_or_refused(answer: str) -> None:
    with suppress(NoVerdictError):
        assert 0 <= parse_verdict(answer, 3) <= 3


@given(st.integers(1, 8).flatmap(lambda steps: st.tuples(st.just(steps), st.integers(0, steps))))
def test_a_verdict_is_right_up_to_the_first_error_and_unknown_behind_it(case: tuple[int, int]) -> None:
    steps, first_wrong = case
    for number, verdict in enumerate(step_verdicts(first_wrong, steps), start=1):
        if first_wrong == 0 or number < first_wrong:
            assert verdict == 1.0
        else:
            assert verdict == 0.0 if number == first_wrong else np.isnan(verdict)


def test_the_schema_allows_what_can_be_read_and_nothing_else() -> None:
    described = answer_format(2)["json_schema"]
    (key,) = described["schema"]["required"]
    assert described["strict"] and described["schema"]["additionalProperties"] is False
    allowed = described["schema"]["properties"][key]["enum"]
    assert [parse_verdict(json.dumps({key: value}), 2) for value in allowed] == [0, 1, 2]
