"""JSON as somebody wrote it: read, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rewards.files.whole_file import opened_here


def read_json(text: str | bytes) -> Any:
    """The value that a JSON text stands for.

    Raises:
        ValueError: It stands for none, or Python cannot hold it; one line that says what is wrong, and where.

    >>> read_json('{"a": [1]}')
    {'a': [1]}
    >>> read_json("[1,\\n2")
    Traceback (most recent call last):
    ValueError: not JSON: line 2: Expecting ',' delimiter at character 2
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}: " if "\n" in error.doc else ""
        raise ValueError(f"not JSON: {line}{error.msg} at character {error.colno}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not JSON: not UTF-8 at byte {error.start + 1}") from None
    except RecursionError:
        raise ValueError("not JSON: its brackets are too deep") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise ValueError(f"not JSON: {' '.join(str(error).partition(';')[0].split())}") from None


def read_record(line: bytes) -> Any:
    """The value that a line of JSON stands for, all of whose texts a model can be given.

    Raises:
        ValueError: As of `read_json`; or JSON's own way to write a character in two halves has written one half.

    >>> read_record(b'{"a": "\\\\ud83d\\\\ude00"}')["a"] == "\N{GRINNING FACE}"
    True
    """
    value = read_json(line)
    if b"\\u" in line:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("holds half of a character; allowed is text that UTF-8 can hold") from None
    return value


def read_json_file(file: Path) -> Any:
    """The value that a file of ours stands for, which is a regular one at this very place.

    Raises:
        ValueError: As of `read_json`; names the file.
        OSError: It cannot be read.
    """
    with open(file, "rb", opener=opened_here) as content:
        text = content.read()
    try:
        return read_json(text)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
