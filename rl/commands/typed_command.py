"""How the user can type a command of this environment."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def typed_command(name: str) -> str:
    """The command by its name where the environment is activated, and by its path where it is not."""
    if shutil.which(name):
        return name
    beside = Path(sys.executable).parent / name
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)
