"""Multiple choice: options as tables hold them, and the letters they go by."""

from __future__ import annotations

import ast
import re
import reprlib
import warnings
from collections.abc import Sequence
from contextlib import suppress
from string import ascii_uppercase as LETTERS  # noqa: N812
from typing import Any

from rl.tasks.values import WrittenNumber, as_text, parse_json

_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:]?")


def read_choices(value: Any) -> list[str]:
    """The choices of a question: a list, or one as Python (MMMU) or JSON writes it; None, empty text or ``[]`` for
    none.

    Raises:
        ValueError: It is something else, or more than there are letters.

    >>> read_choices("['3 cm', 'one foot']"), read_choices(["Yes", "No"]), read_choices("[]"), read_choices(None)
    (['3 cm', 'one foot'], ['Yes', 'No'], [], [])
    >>> read_choices("[3.0, 2.50, -1e3]"), read_choices([3.0, 2.5, 10**22])
    (['3.0', '2.50', '-1e3'], ['3', '2.5', '10000000000000000000000'])
    """
    choices = read_list(value) if isinstance(value, str) else value
    if choices is None or choices != choices:  # NaN, which a table may have in place of null
        return []
    try:
        texts = [_choice(choice) for choice in choices] if isinstance(choices, list | tuple) else None
    except ValueError:
        texts = None
    if texts is None:
        raise ValueError(
            f"{reprlib.repr(value)} is no list of choices; allowed is a list, or its text as Python or JSON writes it"
        )
    if len(texts) > len(LETTERS):
        raise ValueError(f"{len(texts)} choices; allowed are {len(LETTERS)}")
    return texts


def letter_choices(choices: Sequence[str]) -> str:
    """The choices as lines of a question.

    >>> print(letter_choices(["3 cm", "4 cm"]))
    (A) 3 cm
    (B) 4 cm
    """
    return "\n".join(_lettered(choices))


def answer_letter(answer: str, choices: Sequence[str], letter_first: bool = False) -> str:
    """The letter of the choice that is right, given as its letter, its text, or both as `letter_choices` writes them.

    Args:
        answer: What the table says.
        choices: The choices.
        letter_first: Whether an answer that is a choice's letter and another one's text means the letter.

    Raises:
        ValueError: It is none of them.

    >>> answer_letter("4 cm", ["3 cm", "4 cm"]), answer_letter("(b)", ["3 cm", "4 cm"])
    ('B', 'B')
    >>> answer_letter("A", ["B", "A"]), answer_letter("A", ["B", "A"], letter_first=True)
    ('B', 'A')
    """
    answer = answer.strip()
    letter = stated_letter(answer, len(choices))
    if letter and letter_first:
        return letter
    for texts in (list(choices), _lettered(choices)):
        if answer in texts:
            return LETTERS[texts.index(answer)]
    if letter:
        return letter
    raise ValueError(
        f"{reprlib.repr(answer)} is neither a letter from A to {LETTERS[len(choices) - 1]} nor one of the choices"
    )


def stated_letter(answer: str, count: int) -> str:
    """The letter that an answer is, of so many choices; empty if it is none.

    >>> stated_letter(" (b).", 3), stated_letter("D", 3), stated_letter("Yes", 3)
    ('B', '', '')
    """
    match = _LETTER.fullmatch(answer.strip())
    return match[1].upper() if match and match[1].upper() in LETTERS[:count] else ""


def first_of_several(answer: str) -> str:
    """The first of the wordings that an answer lists as Python writes them, as some open questions of MMMU do.

    >>> first_of_several("['6.5', '6.50']"), first_of_several("[0, 2]"), first_of_several("6.5")
    ('6.5', '[0, 2]', '6.5')
    """
    wordings = read_list(answer) if answer.startswith("[") else None
    several = isinstance(wordings, list) and wordings and all(type(wording) is str for wording in wordings)
    return str(wordings[0]) if several and wordings else answer


def read_list(text: str) -> Any:
    r"""The list that a text writes as JSON, or Python, does, with its numbers as they are written; an empty one for
    blank text, and the text itself for any other.

    >>> read_list("['a', 0.50, True]"), read_list(" "), read_list("[x]"), read_list("3")
    (['a', '0.50', 'True'], [], '[x]', '3')
    >>> read_list(r'["\ud83d\ude00", 0.50, true]')
    ['😀', '0.50', True]
    """
    text = text.strip()
    if not text:
        return []
    with suppress(ValueError):
        if isinstance(listed := parse_json(text), list):
            return listed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # backslashes of LaTeX
        try:
            written = ast.parse(text, mode="eval").body
            if not isinstance(written, ast.List | ast.Tuple):
                return text
            values = [ast.literal_eval(entry) for entry in written.elts]
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return text
    lines = text.encode().splitlines()
    return [_as_written(entry, value, lines) for entry, value in zip(written.elts, values, strict=True)]


def _as_written(entry: ast.expr, value: Any, lines: Sequence[bytes]) -> Any:
    """A number or a truth value as it stands in the lines; any other value itself."""
    if not isinstance(value, int | float) or entry.lineno != entry.end_lineno:
        return value
    return WrittenNumber(lines[entry.lineno - 1][entry.col_offset : entry.end_col_offset].decode())


def _lettered(choices: Sequence[str]) -> list[str]:
    return [f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]


def _choice(value: Any) -> str:
    """A choice as it stands in the file.

    Raises:
        ValueError: It is none.
    """
    text = as_text(value)
    if text is None and not isinstance(value, str):
        raise ValueError("nothing")
    return (text or "").strip()
