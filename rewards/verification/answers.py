"""What a prompt's samples vote for: final answers, where those that the verifier holds equal are one candidate."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from rewards.records import Prompt
from rewards.timed_expressions import find_all
from rewards.verification.extraction import after_thought, final_answer
from rewards.verification.reading import OTHERWISE, normal_form, read_answer
from rewards.verification.verdict import Answer, verdict_of
from rewards.verification.verifiers import Verifier

AnswerReader = Callable[[str], str | None]
VoteReader = Callable[[Sequence[str]], list[str | None]]

_LAST_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def vote_reader(name: str, verifier: Verifier, marker: str | None = "Answer:") -> VoteReader:
    """How to read what the completions to one prompt vote for: ``(completions) -> candidates``, None without an answer.

    Answers are read and written as the verifier reads and compares them (`answer_reader`). Two of them are one
    candidate where they are written alike, or where a verifier of Sieve's calls one right with the other as its
    reference: ``12`` and ``12 cm``, ``(x+1)^2`` and ``x^2+2x+1``.

    Args:
        name: The verifier's, in the configuration.
        verifier: The verifier.
        marker: See `answer_reader`.
    """
    same = partial(_same, verifier) if name in OTHERWISE else None
    return partial(_candidates, answer_reader(name, verifier, marker), same)


def answer_reader(name: str, verifier: Verifier, marker: str | None = "Answer:") -> AnswerReader:
    """How to read a completion's final answer: ``(completion) -> text``, None without an answer.

    A verifier of your own may bring its own reader, as its attribute ``answer_of``; otherwise it is `answer_of` with
    the task's ``answer_marker``.

    >>> from rewards.verification.verifiers import latex, multiple_choice
    >>> read = answer_reader("multiple_choice", multiple_choice)
    >>> [read(text) for text in ("B", "Answer: (B)", "**B**", r"\\boxed{B: 12 cm}", "A or B?")]
    ['B', 'B', 'B', 'B', 'aorb?']
    >>> answer_reader("latex", latex)("Answer: 1/2"), answer_reader("latex", latex)("The answer is 0.5.")
    ('0.5', '0.5')
    """
    if name in OTHERWISE:
        return partial(_read, name)
    return getattr(verifier, "answer_of", None) or partial(answer_of, marker=marker)


def answer_of(completion: str, marker: str | None = "Answer:") -> str | None:
    r"""The final answer of a completion for a verifier that does not say how it reads it; None without one.

    It is what `rewards.verification.extraction` finds, else the rest of the line behind the last match of the regular
    expression ``marker``; where there is no marker to look for, the last number of the completion, else its last line.

    >>> answer_of("1: 2 + 2 = 4\nAnswer: 4"), answer_of(r"so \boxed{\frac{1}{2}}."), answer_of("1: 2 + 2 = 4")
    ('4', '0.5', None)
    """
    as_written = after_thought(completion)  # where a marker's own characters are
    answer = final_answer(
        completion, (lambda text: _behind(marker, text) or _behind(marker, as_written)) if marker else _last_statement
    )
    return None if answer is None else normal_form("latex", answer)


def _read(name: str, completion: str) -> str | None:
    answer = read_answer(name, completion)
    return None if answer is None else normal_form(name, answer)


def _same(verifier: Verifier, answer: str, candidate: str) -> bool:
    stated = Answer(f"<answer>{answer}</answer>", Prompt("", "", "", (), candidate))
    return verdict_of(verifier, stated).correct


def _candidates(
    read: AnswerReader, same: Callable[[str, str], bool] | None, completions: Sequence[str]
) -> list[str | None]:
    candidate_of: dict[str, str] = {}
    answers = [read(completion) for completion in completions]
    for answer in dict.fromkeys(filter(None, answers)):
        alike = (candidate for candidate in dict.fromkeys(candidate_of.values()) if same and same(answer, candidate))
        candidate_of[answer] = next(alike, answer)
    return [answer and candidate_of[answer] for answer in answers]


def _behind(marker: str, completion: str) -> str:
    *_, last = (None, *find_all(marker, completion))
    return completion[last.end() :].strip().partition("\n")[0] if last else ""


def _last_statement(completion: str) -> str:
    numbers = _LAST_NUMBER.findall(completion)
    return numbers[-1] if numbers else completion.strip().rpartition("\n")[2]
