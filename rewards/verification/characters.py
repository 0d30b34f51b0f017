"""Characters that mean the same, brought to one of them: digits of every script, full-width letters, marks of what is
written from right to left, accents that stand apart, HTML's names of characters."""

# ruff: noqa: RUF002

from __future__ import annotations

import re
from html import unescape
from unicodedata import decimal, normalize

_SAME = (
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
    | {0x3000: 0x20}
    | {0x066A: "%", 0x066B: ".", 0x066C: ","}  # the Arabic percent sign and separators
    | {0x24B6 + place: 0x41 + place for place in range(26)}  # a letter in a circle
    | {0x249C + place: f"({chr(0x61 + place)})" for place in range(26)}  # a letter in brackets
    | {0x2460 + place: f"({1 + place})" for place in range(20)}  # a number in a circle
    | {0x2044: "/", 0x2215: "/"}
)
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
_DIGIT = re.compile(r"(?![0-9])\d")
_IN_ONE_SIGN = re.compile("[\u2103\u2109\u3371-\u33df\U0001d400-\U0001d7cb]+")
"""Degrees Celsius and Fahrenheit, units such as ㎝, and letters of mathematical typefaces."""
_NAMED = re.compile(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|[a-zA-Z]\w{1,30});")


def plain_characters(text: str) -> str:
    """A text with one character for each meaning.

    >>> [plain_characters(text) for text in ("１２．５", "٣٫١٤", "१२", "12&nbsp;㎝", "Cafe\u0301\u200f", "②", "𝐁")]
    ['12.5', '3.14', '12', '12\\xa0cm', 'Café', '(2)', 'B']
    """
    text = _NAMED.sub(lambda name: unescape(name[0]), text)
    if text.isascii():
        return text
    text = _INVISIBLE.sub("", normalize("NFC", text.translate(_SAME)))
    text = _DIGIT.sub(lambda digit: str(decimal(digit[0])), text)
    return _IN_ONE_SIGN.sub(lambda sign: normalize("NFKC", sign[0]), text)
