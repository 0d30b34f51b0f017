"""Keeps a second process out of a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rl.errors import ConfigError


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Make the folder if it is not there yet, and hold it until this ends, in whatever way.

    Raises:
        ConfigError: It cannot be made, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to: {error.strerror}; name another folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder} is in use by another process; allowed is one at a time") from None
        except OSError:
            pass  # a disk that knows no locks keeps nobody out
        yield
