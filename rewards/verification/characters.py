"""Characters that mean the same, brought to one of them: digits of every script, full-width letters, accents that stand
apart, HTML's names of characters; and without those that nobody sees."""

# ruff: noqa: RUF002

from __future__ import annotations

import re
from html import unescape
from unicodedata import decimal, normalize

from rewards.invisible import INVISIBLE

_SAME = (
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
    | {0x3000: 0x20}
    | {0x066A: "%", 0x066B: ".", 0x066C: ","}  # the Arabic percent sign and separators
    | {
        start + place: 0x41 + place for start in (0x24B6, 0x1F150, 0x1F170) for place in range(26)
    }  # in circles, squares
    | {0x20E3: None}  # the key around a digit
    | {0x249C + place: f"({chr(0x61 + place)})" for place in range(26)}  # a letter in brackets
    | {0x2460 + place: f"({1 + place})" for place in range(20)}  # a number in a circle
    | {0x2044: "/", 0x2215: "/"}
)
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_DIGIT = re.compile(r"(?![0-9])\d")
_IN_ONE_SIGN = re.compile(
    "[\u2103\u2109\u2160-\u217f\u24d0-\u24e9\u3371-\u33df\U0001d400-\U0001d7cb\U0001f130-\U0001f149]+"
)
"""Degrees Celsius and Fahrenheit, Roman numerals, units such as ㎝, letters of mathematical typefaces and in boxes."""
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
