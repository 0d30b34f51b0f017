"""Files that are whole whenever they are looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary name beside ``file``; it becomes ``file`` at the end, and vanishes if the block raises.

    Whatever happens meanwhile, ``file`` is what it was before or all of what it is to be.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
