"""Values of a table as texts: what stands in the file, and not what a column's type makes of it."""

from __future__ import annotations

import datetime
import json
import math
from decimal import Decimal
from typing import Any

import numpy as np

NULLS = {"NaN": None}
MOST_DIGITS = 4300
"""Of a whole number: Python's own bound."""
MOST_DEPTH = 100
"""Of brackets within each other: far from where Python, or whoever is sent the value, gives up."""
TOO_DEEP = f"its brackets are too deep; allowed are {MOST_DEPTH} within each other"


class WrittenNumber(str):
    """A number as a text file has it: ``3.0`` stays ``3.0``, and a long one keeps its digits."""


def parse_json(text: str) -> Any:
    """What a JSON text holds, with numbers as they are written, and None for NaN.

    Raises:
        ValueError: It is none, or its brackets are too deep.

    >>> parse_json('{"a": [1.50, NaN]}')
    {'a': ['1.50', None]}
    """
    try:
        value = _decoder.decode(text)
        if text.count("[") + text.count("{") > MOST_DEPTH:
            _check_depth(value, MOST_DEPTH)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    return value


def as_text(value: Any) -> str | None:
    """A value as it stands in a file; None where nothing stands there: null, NaN, or text of white space only.

    A number of a typed table, which has no spelling of its own, is written without an exponent or needless zeros, and a
    time at midnight as its date.

    Raises:
        ValueError: It is no single value, or a text that UTF-8 cannot hold.

    >>> as_text(WrittenNumber("3.0")), as_text(3.0), as_text(2.5), as_text(1.2e22), as_text(math.nan)
    ('3.0', '3', '2.5', '12000000000000000000000', None)
    >>> as_text(datetime.datetime(2021, 1, 2)), as_text(datetime.date(2021, 1, 2)), as_text(True), as_text(" ")
    ('2021-01-02', '2021-01-02', 'true', None)
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return np.format_float_positional(value + 0.0, trim="-")
    if isinstance(value, datetime.datetime):
        return str(value).removesuffix(" 00:00:00")
    if isinstance(value, Decimal):
        return f"{value:f}"  # a small one would have an exponent
    if not isinstance(value, str | int | datetime.date | datetime.time | datetime.timedelta):
        raise ValueError(f"of type {type(value).__name__}")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a text with half of a character") from None
    return text if text.strip() else None


def as_number(value: Any) -> float | None:
    """A value as a number; None where there is none.

    >>> as_number(WrittenNumber("2.0")), as_number("two"), as_number(None)
    (2.0, None, None)
    """
    try:
        number = float(as_text(value) or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def as_plain(value: Any) -> Any:
    """A value with the numbers in it as numbers, but for those of more digits than Python reads, which stay text.

    >>> as_plain({"box": [WrittenNumber("0"), WrittenNumber("4.0")], "name": "a"})
    {'box': [0, 4.0], 'name': 'a'}
    """
    if isinstance(value, WrittenNumber):
        return json.loads(value) if len(value) <= MOST_DIGITS else str(value)
    if isinstance(value, dict):
        return {name: as_plain(each) for name, each in value.items()}
    return [as_plain(each) for each in value] if isinstance(value, list) else value


def holds_bytes(value: Any) -> bool:
    """Whether a value is bytes, or has some in it."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, bytes) or any(map(holds_bytes, parts))


def _check_depth(value: Any, left: int) -> None:
    if not isinstance(value, dict | list):
        return
    if left == 0:
        raise ValueError(TOO_DEEP)
    for each in value.values() if isinstance(value, dict) else value:
        _check_depth(each, left - 1)


_decoder = json.JSONDecoder(
    parse_int=WrittenNumber, parse_float=WrittenNumber, parse_constant=lambda name: NULLS.get(name, name)
)
