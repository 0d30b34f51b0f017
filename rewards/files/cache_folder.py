"""Folders outside of a run that libraries write to: which one it is, and which variable names another."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile

VARIABLES = ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME")
"""What the Hugging Face libraries take their folders from, the first ones first."""


def check_cache(folder: str | Path) -> None:
    """Whether a folder of the Hugging Face libraries, perhaps not there yet, can be written to.

    Raises:
        ValueError: It cannot; one line that names the folder, the variable that it comes from, and what is allowed.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        named = next((name for name in VARIABLES if _leads_to(os.environ.get(name), folder)), "HOME")
        raise ValueError(
            f"{folder}, a folder of the Hugging Face libraries by {named}, cannot be written to: "
            f"{error.strerror or error}; HF_HOME names another one"
        ) from None


def _leads_to(named: str | None, folder: Path) -> bool:
    return bool(named) and folder.absolute().is_relative_to(Path(str(named)).expanduser().absolute())
