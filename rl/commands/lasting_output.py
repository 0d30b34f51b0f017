"""What a command prints while nobody reads it: no closed pipe, lost terminal or full disk ends the command."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

NOBODY_READS = (errno.EPIPE, errno.EIO)
"""Of a pipe whose reader has ended, as `head` does, and of a terminal that is gone."""


class _LastingFile(io.FileIO):
    """A descriptor that takes whatever is written: once it could not be, the rest goes nowhere."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.lost: OSError | None = None

    def write(self, content: Buffer) -> int:
        if self.lost is None:
            try:
                return super().write(content)
            except OSError as error:
                self.lost = error
        return memoryview(content).nbytes


@contextmanager
def lasting_output() -> Iterator[list[str]]:
    """While inside, writing to standard output and standard error raises nothing; characters that their encoding has no
    code for are written as Python's escapes.

    Yields:
        A list that holds, after the block, why what was printed is not all there; nothing where nobody reads on.
    """
    before, said = (sys.stdout, sys.stderr), list[str]()
    lasting = [_lasting(stream) for stream in before]
    sys.stdout, sys.stderr = (each or stream for each, stream in zip(lasting, before, strict=True))
    try:
        yield said
    finally:
        sys.stdout, sys.stderr = before
        for each in filter(None, lasting):
            each.flush()
            lost = each.buffer.raw.lost  # type: ignore[attr-defined]
            if lost is not None and lost.errno not in NOBODY_READS:
                said.append(lost.strerror)


def _lasting(stream: Any) -> io.TextIOWrapper | None:
    """A stream in its place; None for one that has no descriptor."""
    try:
        stream.flush()
        file = _LastingFile(stream.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or no file at all
        return None
    at_once = stream.line_buffering or stream.write_through
    return io.TextIOWrapper(io.BufferedWriter(file), stream.encoding, "backslashreplace", line_buffering=at_once)
