"""Numbers as people and models write them: with separators, units, percent signs, fractions, in plain text or LaTeX."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

_PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_NUMBER = re.compile(
    rf"(?<![\w.^-])(?P<sign>[-+]?)(?:(?P<whole>\d+)\s+(?P<part>\d+)\s*/\s*(?P<parts>\d+)"
    rf"|(?P<top>{_PLAIN})\s*/\s*(?P<bottom>{_PLAIN})|(?P<plain>{_PLAIN})(?P<power>[eE][-+]?\d+)?)"
)
_UNIT = re.compile(r"(?:[^\W\d_]|[\s°%€£¢./·*²³()'\"-]|(?<=[A-Za-z])\^-?\d+|(?<=[A-Za-z])\d)*")
_SPELLINGS = [  # what is written in several ways is brought to one of them, in this order
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree", "°"),
        (r"\^\s*\{\s*([-+]?\d+)\s*\}", r"^\1"),
        (r"\\[dt]frac", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r" \1/\2"),
        (r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r" \1/\2"),
        (r"\\(?:text|textbf|mathrm|mathbf|mbox|boxed)\s*\{([^{}]*)\}", r" \1"),
        (r"\{,\}|(?<=\d)[\u00a0\u202f\u2009](?=\d{3})|\\[,!]", ""),
        (r"\s*(?:\\times|\\cdot|[*\u00d7])\s*10\s*\^\s*([-+]?\d)", r"e\1"),
        (r"(?<![\w.])10\s*\^\s*([-+]?\d)", r"1e\1"),
        (r"\\(?:approx|simeq)|\u2248", "="),
        (r"[\u2212\u2013]", "-"),
        (r"\\([%$])", r"\1"),
        (r"\\[()\[\];: ]|[{}$~]|\*\*", " "),
        (r"(?<![\w.])([-+])\s+(?=[.\d])", r"\1"),
    ]
]
LONGEST = 500
"""Characters of a text that may be a number."""


@dataclass(frozen=True)
class Quantity:
    """A number with what stands behind it: ``1,250 kg`` is 1250 of ``kg``. The value of a percentage is as written."""

    value: float
    unit: str = ""

    @property
    def is_percentage(self) -> bool:
        return self.unit.startswith(("%", "percent"))


def parse_quantity(text: str) -> Quantity | None:
    r"""The one number that a text states; None if it states none, several, or one that can be read in two ways.

    What is left of the last equals sign does not count, nor do words and currency signs before the number. ``1,5`` can
    be read in two ways; ``1,500`` is a thousand and a half. Fractions, mixed numbers and powers of ten are numbers.

    >>> parse_quantity("x = 1,250.5 kg"), parse_quantity(r"$-1\frac{1}{2}$")
    (Quantity(value=1250.5, unit='kg'), Quantity(value=-1.5, unit=''))
    >>> parse_quantity(r"12\%"), parse_quantity(r"3 \times 10^{2} m/s^2")
    (Quantity(value=12.0, unit='%'), Quantity(value=300.0, unit='m/s^2'))
    >>> [parse_quantity(text) for text in ("1,5", "12 or 13", "1/0", "none", "3-4")]
    [None, None, None, None, None]
    """
    if len(text) > LONGEST:
        return None
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    stated = text.rpartition("=")[2]
    found = _NUMBER.search(stated)
    if found is None:
        return None
    value, rest = _value(found), stated[found.end() :]
    if value is None or not _UNIT.fullmatch(rest):  # a unit has no room for a second number
        return None
    return Quantity(value, " ".join(rest.split()).strip(" .").casefold())


def agree(answer: Quantity, reference: Quantity, tolerance: float, absolute_tolerance: float) -> bool:
    """Whether two quantities are the same, within ``tolerance`` of the reference's value or ``absolute_tolerance``.

    A unit that one of them leaves out does not count; two different ones do. So 50 %, 50 and 0.5 are all the same as
    50 %, but 50 is not the same as 0.5.
    """
    if not _units_agree(answer.unit, reference.unit):
        return False
    values = [(answer.value, reference.value)]
    if answer.is_percentage != reference.is_percentage:
        values.append((_ratio(answer), _ratio(reference)))
    return any(abs(left - right) <= max(tolerance * abs(right), absolute_tolerance) for left, right in values)


def _value(match: re.Match[str]) -> float | None:
    part = {name: text.replace(",", "") for name, text in match.groupdict("").items()}
    try:
        if part["parts"]:
            value = float(part["whole"]) + float(part["part"]) / float(part["parts"])
        elif part["bottom"]:
            value = float(part["top"]) / float(part["bottom"])
        else:
            value = float(part["plain"] + part["power"])
    except ZeroDivisionError:
        return None
    return (-value if part["sign"] == "-" else value) if isfinite(value) else None


def _ratio(quantity: Quantity) -> float:
    return quantity.value / 100 if quantity.is_percentage else quantity.value


def _units_agree(left: str, right: str) -> bool:
    """Equal, or one is left out, or goes on in words after the other: ``cm`` and ``cm long``."""
    return not left or not right or f"{left} ".startswith(f"{right} ") or f"{right} ".startswith(f"{left} ")
