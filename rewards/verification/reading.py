"""What a verifier reads as the answer of a completion, and the one way in which it writes it down."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from rewards.verification.decoration import LONGEST, normal_text, undecorated
from rewards.verification.expression import Expression, parse_expression
from rewards.verification.extraction import FinalAnswer, final_answer
from rewards.verification.options import option_of
from rewards.verification.quantity import EXACT, Quantity, in_one_spelling, parse_quantity
from rewards.verification.quantity import LONGEST as LONGEST_NUMBER

_LAST_NUMBER = re.compile(
    r"(?<![\w.])(?<![a-zA-Z]\^)-?(?:\d+ {1,2}\d+/\d+(?![\d/])|\d{1,3}(?: \d{3}){2,}(?!\d)"
    r"|\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+|/\d+)?)(?:\s*%)?"
)
_DIGIT = re.compile(r"[\d\u00bc-\u00be\u2150-\u215e\u00b2\u00b3\u00b9\u2070-\u2079]")
_BARE_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_SPAN = re.compile(
    r"\$\$([^$]+)\$\$|(?<!\\)\$([^$\n]+)\$|\\\(((?:(?!\\\().)+?)\\\)|\\\[((?:(?!\\\[).)+?)\\\]", re.DOTALL
)
_CLAUSE = re.compile(
    r"[.!?。]\s+(?=[^\W\d_]{2}|I\s)(?!(?:or|and|but|not|no|wait)\b)|[,;]?\s+(?=(?:because|since|which)\b)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?=.*[^\W\d_]{2})[^=\\]*", re.DOTALL)
_SEVERAL = re.compile(r"\d|[=<>^_+*/]|\\|\b(?:and|or|nor|not|either|minus|times|plus|half|than)\b", re.IGNORECASE)


def last_number(text: str) -> str | None:
    """The last number of a text in one spelling, with its percent sign, denominator, or power of ten."""
    *_, last = (None, *_DIGIT.finditer(text))
    if last is None:
        return None
    near = text[max(0, last.end() - LONGEST_NUMBER) : last.end() + 10]
    numbers = _LAST_NUMBER.findall(in_one_spelling(near))
    return numbers[-1] if numbers else None


def last_bare_number(text: str) -> str | None:
    """The last digits of a text, with sign and point."""
    numbers = _BARE_NUMBER.findall(text)
    return numbers[-1] if numbers else None


def last_option(text: str) -> str | None:
    """A text of one line; of several, the last line if there is nothing but an option in it."""
    *before, last = text.strip().splitlines() or [""]
    return last if not before or re.fullmatch(r"\W*[A-Z]\W*", last.strip()) else None


def last_mathematics(text: str) -> str | None:
    """The last maths between marks; without any, a text of one line that is an expression, else the last number."""
    *_, last = (None, *_SPAN.finditer(text))
    if last is not None:
        return last[0]
    return text if parse_expression(text.strip()) else last_number(text)


OTHERWISE: dict[str, Callable[[str], str | None] | None] = {
    "exact": None,
    "boxed": last_bare_number,
    "numeric": last_number,
    "multiple_choice": last_option,
    "latex": last_mathematics,
}
"""By verifier: the answer of a completion that states none."""


def read_answer(verifier: str, completion: str) -> FinalAnswer | None:
    """The final answer of a completion, as the verifier of that name reads it; None without one."""
    return final_answer(completion, OTHERWISE[verifier])


def normal_form(verifier: str, answer: FinalAnswer) -> str:
    r"""The one way to write an answer: an option's letter, a number in digits, text without what is not meant.

    >>> [normal_form("latex", FinalAnswer(text)) for text in ("1/2", "0.5", r"\frac{1}{2}", "x + 1")]
    ['0.5', '0.5', '0.5', 'x+1']
    >>> [normal_form("multiple_choice", FinalAnswer(text)) for text in ("(b)", "B: 12 cm", "12  CM")]
    ['B', 'B', '12cm']
    """
    if verifier in ("exact", "boxed"):
        return answer.text
    if verifier == "multiple_choice":
        return read_option(answer.text)[0] or normal_text(answer.text)
    numbers = read_numbers(answer) if verifier == "numeric" else _expression_as_number(answer)
    return str(numbers[-1]) if numbers else normal_text(answer.text)


def read_option(text: str) -> tuple[str, str]:
    """`rewards.verification.options.option_of`, whatever marks of LaTeX and Markdown stand within."""
    if len(text) > LONGEST:
        return "", text
    text = re.sub(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it)|mbox)\s*\{([^{}]*)\}", r"\1", text)
    return option_of(re.sub(r"\*\*|\$|\\[() ]|[{}]", "", text))


def read_numbers(answer: FinalAnswer) -> list[Quantity]:
    """The number that an answer states; two where a sentence ends with ``5!``, the factorial and the exclamation."""
    for text in _first_statements(answer.text):
        numbers = [number for number in map(parse_quantity, _readings(text, answer.prose)) if number is not None]
        if numbers:
            return numbers
    return []


def exclaimed(answer: FinalAnswer) -> list[FinalAnswer]:
    """An answer; where it is the end of a sentence with an exclamation mark, also the one without."""
    return [FinalAnswer(text, answer.prose) for text in _readings(answer.text, answer.prose)]


def read_expressions(answer: FinalAnswer) -> Iterator[Expression]:
    """What an answer may be as an expression, the likeliest first: the first that can be read is it.

    The whole text, its first sentence, the only maths between marks in a sentence that says nothing else, the number
    of such a sentence.
    """
    for text in _first_statements(answer.text):
        if (found := parse_expression(text)) is not None:
            yield found
        *_, last = (None, *_SPAN.finditer(text))
        alone = last is not None and not _SEVERAL.search(_SPAN.sub(" ", text, count=1))
        if last is not None and alone and (found := parse_expression(undecorated(last[0]))) is not None:
            yield found
        number = parse_quantity(text) if _SENTENCE.fullmatch(text) else None
        if number is not None:
            yield Expression(f"{number.value:.15g}", number.unit)


def _expression_as_number(answer: FinalAnswer) -> list[Quantity]:
    found = next(read_expressions(answer), None)
    number = None if found is None or "=" in found.latex else parse_quantity(found.latex)
    if found is None or number is None or number.unit or abs(number.value) >= EXACT:
        return []
    return [Quantity(number.value, found.unit)]


def _readings(text: str, prose: bool) -> list[str]:
    return [text, text.rstrip("!")] if prose and text.endswith("!") else [text]


def _first_statements(text: str) -> Iterator[str]:
    if len(text) > LONGEST:
        return
    yield text
    first = undecorated(_CLAUSE.split(text, maxsplit=1)[0])
    if first != text:
        yield first
