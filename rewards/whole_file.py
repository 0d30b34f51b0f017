"""Files that are whole whenever they are looked at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written under a temporary name, and rename it: whatever happens meanwhile, ``path`` is what it was
    before or all of what it is to be."""
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    os.replace(partial, path)
