"""Words behind a number that make another number of it: ``12 million``, ``3万``, ``$3K``, ``2 thirds``, ``3 dozen``."""

# ruff: noqa: RUF001

from __future__ import annotations

import re

_POWERS = {
    2: "hundreds?_|百(?!分)|백",
    3: "(?:thousands?|tausend|тыс(?:яч[аи]?)?)_|千(?![克米瓦卡焦帕伏赫])|천|ألف|हज़ार",
    4: "[万萬]|만(?!큼)",
    5: "lakhs?_|लाख",
    6: "(?:millions?|mln|mio|millionen|mill[oó]n(?:es)?|milion[ei]|milhão|milhões|млн|миллион(?:а|ов)?)_|مليون",
    7: "crores?_|करोड़",
    8: "[亿億]|억",
    9: "(?:billions?|bn|mrd|milliard(?:en?|s)?|miliard[ei]|млрд|миллиард(?:а|ов)?)_|مليار",
    12: "trillions?_",
}
"""Words by the power of ten that they stand for; no letter follows where there is ``_``."""
_MONEY = {"K": 3, "M": 6, "B": 9}
_SIGN = r"([$€£¥₹]\s*)"
_NUMBER = r"(?<![\w./^])(?<!\d,)((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)"
_END = r"(?![^\W\d_])"
_SCALED = [
    *((re.compile(_SIGN + _NUMBER + rf"\s?{letter}\b"), rf"\1\2e{power}") for letter, power in _MONEY.items()),
    *(
        (re.compile(rf"{_NUMBER}\s*(?:{words}|\\text\s*{{\s*(?:{words})\s*}})", re.IGNORECASE), rf"\1e{power}")
        for power, words in ((power, words.replace("_", _END)) for power, words in _POWERS.items())
    ),
]
MAKES_ANOTHER = (
    r"(?:hundred|thousand|million|billion|trillion|lakh|crore|兆|squared|cubed|factorial|doubled|tripled|halved|dozen"
    r"|(?:score|gross|halves|(?:third|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s)\b)"
)
"""A number with these behind it is another one, which nobody reads."""


def scaled_in_digits(text: str) -> str:
    """A text whose numbers have powers of ten instead of words.

    >>> [scaled_in_digits(text) for text in ("1,250.5 million km", "3万元", "$3K", "12千克")]
    ['1,250.5e6 km', '3e4元', '$3e3', '12千克']
    """
    for pattern, in_digits in _SCALED:
        text = pattern.sub(in_digits, text)
    return text
