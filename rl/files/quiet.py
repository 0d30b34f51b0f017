"""Silence while a library starts: compiled code and loggers write to stderr past Python's own filters."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

QUIET_LIBRARIES = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}
"""Environment variables that keep libraries from saying anything of their own; most read them as they are imported."""


def quieten_libraries(*but: str) -> None:
    """Set `QUIET_LIBRARIES` for this process, but for the named ones."""
    os.environ.update({name: value for name, value in QUIET_LIBRARIES.items() if name not in but})


@contextmanager
def quiet_stderr(is_told: bool = False) -> Iterator[None]:
    """What this process writes to stderr inside the block is held back, and shown only if the block raises; never where
    the caller tells of the error in words."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            if not is_told:
                held.seek(0)
                os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
