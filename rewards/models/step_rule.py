"""What a rule is that says where in a text its written steps end, and how one is made of a regular expression or of a
user's function. Those that have a name are in `rewards.models.named_rules`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import regex

from rewards.timed_expressions import find_all
from rewards.users_code import UsersCodeError, in_one_line


@dataclass(frozen=True)
class Gap:
    """What stands between two steps: the characters ``start <= i < end``, none where the two are equal. The step before
    ends with it."""

    start: int
    end: int


@dataclass(frozen=True)
class StepRule:
    """How written steps are told apart.

    A rule looks ahead no further than the beginning of the next step: what is written after that moves no end.

    Attributes:
        gaps: Where in a text one step ends and the next begins.
        between: A text to put between steps that are given one by one.
        until: The text at which a step surely ends, for an engine to stop at; None where one text cannot say that.
        before_answer: Whether a step ends before the final answer, too, where that begins a line or a sentence; and
            whether what makes a text bold, a quote or a heading may stand before the answer's marker.
    """

    gaps: Callable[[str], Iterable[Gap]]
    between: str = "\n"
    until: str | None = None
    before_answer: bool = True


def rule_of_expression(expression: str) -> StepRule:
    r"""Steps with matches of a regular expression between them; a run of matches is one gap.

    >>> rule = rule_of_expression(r"\n\n")
    >>> list(rule.gaps("a.\n\n\n\nb")), rule.between, rule.until
    ([Gap(start=2, end=6)], '\n\n', '\n\n')
    >>> rule_of_expression(r"\s*###\s*").between, rule_of_expression(" -> ").between
    ('\n', ' -> ')
    """
    candidates = ("\n", "\n\n", expression)
    return StepRule(
        lambda text: (Gap(*match.span()) for match in find_all(f"(?:{expression})+", text)),
        next((text for text in candidates if regex.fullmatch(expression, text)), "\n"),
        _literal_text(expression),
        before_answer=False,
    )


def rule_of_function(name: str, ends: Callable[[str], Iterable[int]]) -> StepRule:
    """Steps that end where a function of the user's says, which gives places in a text (the characters before each).

    White space before an end only separates. The rule raises `UsersCodeError` where the function fails, or gives what
    are no places of the text in order.

    >>> rule = rule_of_function("mine:halves", lambda text: [len(text) // 2])
    >>> list(rule.gaps("one two "))
    [Gap(start=3, end=4)]
    """

    def gaps(text: str) -> list[Gap]:
        with in_one_line(f"task.steps {name}", let_through=(UsersCodeError,)):
            places = list(map(int, ends(text)))
            if places != sorted(set(places)) or not all(0 <= place <= len(text) for place in places):
                raise UsersCodeError(
                    f"task.steps {name} gave {places[:5]} for a text of {len(text)} characters; allowed are places in "
                    "it, each once, in order"
                )
        return [Gap(len(text[:place].rstrip()), place) for place in places]

    return StepRule(gaps)


def _literal_text(expression: str) -> str | None:
    r"""The one text that a plain regular expression matches, such as ``\n\n``; None for one with a choice in it."""
    text = expression.replace(r"\n", "\n").replace(r"\t", "\t")
    return None if re.search(r"[\\.^$*+?{}\[\]|()]", text) else text
