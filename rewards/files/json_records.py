"""Lines of JSON that each hold a record, some with images."""

from __future__ import annotations

from typing import Any

from rewards.files.json_text import read_record

PLACEHOLDER = "<image>"
"""Where VisualPRM's own chat template puts an image; no part of the question."""


class UnusableRecordError(ValueError):
    """A line is no record that a reward model can learn from; the message says why."""


def json_object(line: bytes) -> dict[str, Any]:
    """The JSON object that a line is.

    Raises:
        UnusableRecordError: It is none.
    """
    try:
        content = read_record(line)
    except ValueError as error:
        raise UnusableRecordError(str(error)) from None
    if not isinstance(content, dict):
        raise UnusableRecordError("not a JSON object")
    return content
