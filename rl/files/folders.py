"""Folders that a command makes or works in: refused beforehand where they cannot be, whole once they are there, and
used by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from rewards.files.whole_file import opened_here
from rl.errors import ConfigError


def check_new_folder(option: str, folder: Path) -> None:
    """Whether a folder can be made; to be asked before the work that is to fill it.

    Raises:
        ConfigError: It is there already, or the folder around it is not; ``option`` is how the user named it.
    """
    try:
        there = folder.exists()
    except OSError as error:
        raise ConfigError(f"{option} {str(folder)[:200]}: cannot be made: {error.strerror}") from None
    if there:
        raise ConfigError(f"{option} {folder}: is there already; name another folder")
    around = folder.absolute().parent
    if not around.is_dir():
        raise ConfigError(f"{option} {folder}: there is no folder {folder.parent}")
    if not os.access(around, os.W_OK):
        raise ConfigError(f"{option} {folder}: the folder {folder.parent} cannot be written to")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder``; it becomes ``folder`` at the end, and vanishes if the block raises.

    Raises:
        ConfigError: Another process is making it.
        OSError: It cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(exist_ok=True)
    place = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not _locked(place):
        os.close(place)
        raise ConfigError(f"{folder} is being made by another process; name another folder")
    try:
        _empty(partial)  # one that was killed may have left it
        yield partial
        os.replace(partial, folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, SafetensorError):
            raise OSError(f"{folder} cannot be written: {error}") from error
        raise
    finally:
        os.close(place)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextmanager
def only_one(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Make the folder if it is not there yet, and hold it until this ends, in whatever way.

    Args:
        folder: The folder.
        patience: Seconds to wait for another process that holds it.

    Raises:
        ConfigError: It cannot be made, or another process holds it.
    """
    until = time.monotonic() + patience
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.fdopen(opened_here(str(folder / ".lock"), os.O_RDWR | os.O_CREAT), "r+b")
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written to: {error.strerror}; name another folder") from None
    with lock:
        while not _locked(lock):
            if time.monotonic() > until:
                raise ConfigError(f"{folder} is in use by another process; allowed is one at a time")
            time.sleep(0.1)
        yield


def _locked(file: BinaryIO | int) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a disk that knows no locks keeps nobody out
    return True
