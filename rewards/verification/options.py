r"""The option of a multiple-choice question that a text names."""

from __future__ import annotations

import re

_NAME = r"(?:the\s+)?(?:(?:correct|right|best)\s+)?(?:option|choice|answer|letter)\s+"
_ONE = r"[^\W\d_]"
_BRACKETED = rf"[(\[{{<\u3010]{{1,2}}\s*({_ONE})\s*[)\]}}>\u3011]{{1,2}}"
_IS_RIGHT = (
    r"\s+is\s+(?:therefore\s+)?(?:the\s+)?(?:correct|right|best|answer)(?:\s+(?:one|option|choice|answer))?(?=[.!\s]*$)"
)
_BEHIND = r"\s*$|\s+(?=\()|\s*[-|\u2013\u2014]\s|\s*[:)\]\u3001]|[.,;!](?=\s|$|\d|[A-Z]{2})"
_OPTION = re.compile(rf"(?:{_NAME})?(?:{_BRACKETED}(?:{_IS_RIGHT})?|({_ONE})(?:{_BEHIND}))", re.IGNORECASE)
_RIGHT = re.compile(rf"^({_NAME}{_ONE}){_IS_RIGHT}", re.IGNORECASE)
_LAST = re.compile(rf"\s{_BRACKETED}\s*$")
_LETTER = rf"(?:option\s+|choice\s+)?[(\[]?{_ONE}[)\].:,;!]*"
_OTHERWISE = re.compile(r"\b(?:not|but|or|nor|neither|except|wrong|incorrect)\b|n't\b", re.IGNORECASE)
_ANOTHER = re.compile(
    rf"[)\]}}>.:;,\s-]*{_LETTER}\s*$"
    rf"|[)\]}}>.]*\s*(?:[,/&+;|]\s*(?:and\b|or\b)?|and\b|or\b)\s*{_LETTER}\s*(?:$|[,/&|]|and\b|or\b)"
    r"|[)\]}>.,;\s(]*(?:or|nor|but|not|rather\s+than|instead\s+of)\b"
    r"|[)\]}>\s]*(?:is|was)(?:\s+also)?\s+(?:wrong|incorrect|not\s+(?:right|correct|it|the\s+(?:answer|one)))\b",
    re.IGNORECASE,
)

_SEVERAL = re.compile(r"(?:both\s+)?\(?[A-Z]\)?(?:(?:\s*[,;\u3001&+]\s*(?:and\s+)?|\s+and\s+)\(?[A-Z]\)?)+")
_TOGETHER = re.compile("(?=..)A?B?C?D?E?F?G?H?")
_LATIN = str.maketrans("АВСЕНКМОРТХΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABCEHKMOPTXABEZHIKMNOPTYX")  # noqa: RUF001
_NUMERAL = r"(\d{1,2}|[ivx]{1,5})"
_NUMBERED = re.compile(rf"(?:[(\[]{_NUMERAL}[)\]]|{_NUMERAL}(?:[).:]+|$))(?=\s|$)", re.IGNORECASE)


def numeral_of(text: str, alone: bool = False) -> str:
    """The number of the option that a text names, where options are numbered: ``(2)``, ``2. 12 cm``, ``iv``.

    Args:
        text: That.
        alone: Whether nothing may follow.
    """
    match = (_NUMBERED.fullmatch if alone else _NUMBERED.match)(text.strip())
    return "" if match is None else (match[1] or match[2]).casefold()


def same_option(option: str, right: str) -> bool:
    """Whether two letters are the same, or the first one, of another script, looks like the other, a Latin one.

    >>> same_option("\u0412", "B"), same_option("B", "\u0412")
    (True, False)
    """
    return right in (option, option.translate(_LATIN))


def options_of(text: str, together: bool = False) -> frozenset[str]:
    """The letters of a text that is nothing but several of them, for a question with more than one right option.

    Together, as in ``ACD``, they may be a word.

    Args:
        text: That.
        together: Whether these are letters, too, in order.

    >>> sorted(options_of("A, C and (D)")), sorted(options_of("A or C")), sorted(options_of("ACD"))
    (['A', 'C', 'D'], [], [])
    """
    text = text.strip()
    several = _SEVERAL.fullmatch(text) or (together and _TOGETHER.fullmatch(text))
    return frozenset(re.findall("[A-Z]", text)) if several else frozenset()


def option_of(text: str) -> tuple[str, str]:
    r"""The letter of the one option that a text names, in capitals, and the text that it gives of it; no letter, and
    the whole text, where it names none, and neither where it names several.

    An option is a letter in any case: ``B``, ``(B)``, ``B.``, ``B: 12 cm``, ``(B)12 cm``, ``B - 12 cm``, ``option B``,
    or in brackets at the end, ``12 cm (B)``. A letter that a word follows is none (``A cat``).

    >>> option_of("(B)12 cm"), option_of("E - text"), option_of("A cat"), option_of("D, not B"), option_of("A or B")
    (('B', '12 cm'), ('E', 'text'), ('', 'A cat'), ('', ''), ('', 'A or B'))
    """
    text = _RIGHT.sub(r"\1", text.strip().strip("|").strip())  # a row of a table, `Option B is correct`
    match = _OPTION.match(text)
    if match is None:
        last = _LAST.search(text)
        before = "" if last is None else text[: last.start()]
        if last is None or re.search(_BRACKETED, before) or _OTHERWISE.search(before):
            return "", text
        return last[1].upper(), before.strip()
    if _ANOTHER.match(text, match.end(1) if match[1] else match.end(2)):
        return "", ""
    return (match[1] or match[2]).upper(), text[match.end() :].strip(" .:)|-\u2013\u2014")
