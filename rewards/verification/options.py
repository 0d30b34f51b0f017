r"""The option of a multiple-choice question that a text names."""

from __future__ import annotations

import re

_NAME = r"(?:the\s+)?(?:(?:correct|right|best)\s+)?(?:option|choice|answer)\s+"
_BRACKETED = r"[(\[{<]{1,2}\s*([A-Z])\s*[)\]}>]{1,2}"
_BEHIND = r"\s*$|\s+(?=\()|\s*[-\u2013\u2014]\s|\s*[:)\]\u3001]|[.,;!](?=\s|$|\d|[A-Z]{2})"
_OPTION = re.compile(rf"(?:{_NAME})?(?:{_BRACKETED}|([A-Z])(?:{_BEHIND}))", re.IGNORECASE)
_LAST = re.compile(rf"\s{_BRACKETED}\s*$")
_LETTER = r"(?:option\s+|choice\s+)?[(\[]?[A-Z][)\].:,;!]*"
_ANOTHER = re.compile(
    rf"[)\]}}>.:;,\s-]*{_LETTER}\s*$"
    rf"|[)\]}}>.]*\s*(?:[,/&+;]\s*(?:and\b|or\b)?|and\b|or\b)\s*{_LETTER}\s*(?:$|[,/&]|and\b|or\b)"
    r"|[)\]}>.,;\s(]*(?:or|nor|but|not|rather\s+than|instead\s+of)\b",
    re.IGNORECASE,
)


def option_of(text: str) -> tuple[str, str]:
    r"""The letter of the one option that a text names, in capitals, and the text that it gives of it; no letter, and
    the whole text, where it names none, and neither where it names several.

    An option is a letter in any case: ``B``, ``(B)``, ``B.``, ``B: 12 cm``, ``(B)12 cm``, ``B - 12 cm``, ``option B``,
    or in brackets at the end, ``12 cm (B)``. A letter that a word follows is none (``A cat``).

    >>> option_of("(B)12 cm"), option_of("E - text"), option_of("A cat"), option_of("D, not B"), option_of("A or B")
    (('B', '12 cm'), ('E', 'text'), ('', 'A cat'), ('', ''), ('', 'A or B'))
    """
    text = text.strip()
    match = _OPTION.match(text)
    if match is None:
        last = _LAST.search(text)
        if last is None or re.search(_BRACKETED, text[: last.start()]):
            return "", text
        return last[1].upper(), text[: last.start()].strip()
    if _ANOTHER.match(text, match.end(1) if match[1] else match.end(2)):
        return "", ""
    return (match[1] or match[2]).upper(), text[match.end() :].strip(" .:)-\u2013\u2014")
