"""What an answer earns beside the verifier's score: rewards by name, each with a weight.

    overlong     0 up to L - c tokens, then down to -1 at L tokens, and -1 beyond: the soft overlong punishment of DAPO
                 (arXiv 2503.14476, equation 13)
    format       1 where the whole completion matches a regular expression, else 0 (DeepSeek-R1, arXiv 2501.12948)
    repetition   minus the share of n-grams of tokens that repeat an earlier one (arXiv 2502.03373, as TRL has it)

They are rewards alone: whether an answer is right, they do not say.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import dataclass

import regex

from rewards.users_code import UsersCodeError, in_one_line
from rewards.verification.reward_functions import judge_of
from rewards.verification.verdict import Answer, read_verdict

FORM_SECONDS = 3.0
"""For a look at one completion's form."""


@dataclass(frozen=True)
class AddedReward:
    """One of them.

    Attributes:
        name: Of its metric.
        weight: What it counts.
        value: Of an answer; None where it has nothing to say.
    """

    name: str
    weight: float
    value: Callable[[Answer], float | None]

    def __call__(self, answer: Answer) -> float | None:
        return self.value(answer)


def overlong(answer: Answer, most: int, buffer: int) -> float:
    """DAPO's: nothing below ``most - buffer`` tokens, from there evenly down to -1 at ``most``.

    >>> from rewards.records import Prompt
    >>> [overlong(Answer("", Prompt("", "", "", (), ""), (7,) * n), 100, 20) for n in (80, 90, 100, 120)]
    [0.0, -0.5, -1.0, -1.0]
    """
    return -min(max(len(answer.token_ids) - (most - buffer), 0) / buffer, 1.0) + 0.0


def formatted(answer: Answer, expression: str) -> float:
    """Whether the whole completion is of a form; one that takes longer than `FORM_SECONDS` to look at is not."""
    try:
        return float(regex.fullmatch(expression, answer.text, regex.DOTALL, timeout=FORM_SECONDS) is not None)
    except TimeoutError:
        return 0.0


def repetition(answer: Answer, length: int) -> float:
    """Minus the share of n-grams that repeat an earlier one; 0 for fewer tokens than one of them has.

    >>> from rewards.records import Prompt
    >>> [repetition(Answer("", Prompt("", "", "", (), ""), tokens), 2) for tokens in ((1, 2, 3, 4), (5, 5, 5, 5, 5))]
    [0.0, -0.75]
    """
    tokens = answer.token_ids
    grams = [tokens[start : start + length] for start in range(len(tokens) - length + 1)]
    return len(set(grams)) / len(grams) - 1 if grams else 0.0


def users_reward(name: str, function: Callable[..., object]) -> Callable[[Answer], float | None]:
    """A function of the user's, of any kind that `rewards.verification.reward_functions` knows.

    Args:
        name: For messages.
        function: The user's own; a number by name is its ``score``, None is nothing.
    """
    judge, _ = judge_of(function)

    def value(answer: Answer) -> float | None:
        with in_one_line(name, let_through=(UsersCodeError,)):
            said = judge(answer)
            try:
                return None if said is None else read_verdict(said, bounded=False).score
            except ValueError as error:
                raise UsersCodeError(f"{name} gave {reprlib.repr(said)} for an answer; {error}") from None

    return value
