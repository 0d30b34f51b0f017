"""Final answers as text that equal answers share: what self-consistency counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from rewards.verification.verifiers import Verifier, final_answer

AnswerReader = Callable[[str], str | None]

_NUMBER = re.compile(r"(-?)\+?0*(\d+)(?:\.(\d*?)0*)?")
_LAST_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def answer_reader(verifier: Verifier, marker: str | None = "Answer:") -> AnswerReader:
    """How to read a completion's final answer: ``(completion) -> text``, None without an answer.

    A verifier of your own may bring its own reader, as its attribute ``answer_of``; otherwise it is `answer_of` with
    the task's ``answer_marker``.
    """
    return getattr(verifier, "answer_of", None) or partial(answer_of, marker=marker)


def answer_of(completion: str, marker: str | None = "Answer:") -> str | None:
    r"""The final answer of a completion in `normal_form`; None without one.

    It is what `rewards.verification.verifiers` finds (the last ``\boxed{…}``, else behind ``Answer:``), else the
    rest of the line behind the last match of the regular expression ``marker``; where there is no marker to look for
    and nothing is boxed, the last number of the completion, else its last line.

    >>> answer_of("1: 2 + 2 = 4\nAnswer: 4"), answer_of(r"so \boxed{\frac{1}{2}}."), answer_of("1: 2 + 2 = 4")
    ('4', '\\frac{1}{2}', None)
    """
    stated = final_answer(completion)
    if stated is None and r"\boxed" not in completion:
        stated = _last_statement(completion) if marker is None else _behind(marker, completion)
    return normal_form(stated or "") or None


def normal_form(answer: str) -> str:
    r"""One way to write an answer: no capitals, no ``$`` or full stop around it, single spaces; numbers without
    commas, plus signs and needless zeros.

    >>> normal_form(" $1,250.50$. "), normal_form("The  Left one"), normal_form("+4.0"), normal_form("007")
    ('1250.5', 'the left one', '4', '7')
    """
    text = " ".join(answer.split()).casefold().strip("$ ").removesuffix(".").strip("$ ")
    number = _NUMBER.fullmatch(re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text))
    if number is None:
        return text
    sign, whole, fraction = number.groups()
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def _behind(marker: str, completion: str) -> str:
    *_, last = (None, *re.finditer(marker, completion))
    return completion[last.end() :].strip().partition("\n")[0] if last else ""


def _last_statement(completion: str) -> str:
    numbers = _LAST_NUMBER.findall(completion)
    return numbers[-1] if numbers else completion.strip().rpartition("\n")[2]
