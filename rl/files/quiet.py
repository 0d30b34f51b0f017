"""Silence while a library starts: compiled code and loggers write to stderr past Python's own filters."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


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
