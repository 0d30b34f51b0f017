"""Temporary folders that somebody holds: they go with the process that made them, however that ends.

    sieve-RANDOM/lock    held by that process and by every one that inherits it; says on which machine

As a script, which needs nothing but Python's own library, it is a folder's keeper: it waits until the process lets go
or is killed, ends what then still holds the folder, and removes it. Folders that have none, and those that lost it, go
with the next command that wants one.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import secrets
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAME = re.compile(r"sieve-[a-z0-9_]{8}")
LOCK = "lock"
SECONDS_TO_END = 2.0
"""What is killed with its parent, or misses its servers, is gone by then."""
SECONDS_TO_REMOVE = 10.0


def hold_new_folder(around: Path) -> tuple[Path, int]:
    """A new folder in ``around``, for its owner alone, and the descriptor of its lock, for others to inherit.

    Raises:
        OSError: It cannot be made.
    """
    path = around / f"sieve-{secrets.token_hex(4)}"  # named before it is there: Ctrl-C may come the moment that it is
    try:
        path.mkdir(mode=0o700)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, platform.node().encode())
    except FileExistsError:
        raise
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path, lock


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for what nobody needs once the block is left, where temporary files are; those of commands that were
    killed are removed first.

    Raises:
        OSError: It cannot be made.
    """
    around = Path(tempfile.gettempdir())
    remove_left_behind(around)
    path, lock = hold_new_folder(around)
    try:
        (inside := path / "scratch").mkdir()
        yield inside
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def left_behind(around: Path) -> list[Path]:
    """The folders of this machine and this user that nobody holds any more."""
    found = [path for path in around.glob("sieve-*") if NAME.fullmatch(path.name)]
    return [path for path in found if _is_private(path) and _is_left(path)]


def remove_left_behind(around: Path) -> None:
    """Remove them: of what was killed together with their keepers, or with the machine."""
    for path in left_behind(around):
        shutil.rmtree(path, ignore_errors=True)


def _is_private(path: Path) -> bool:
    with suppress(OSError):
        kind = path.lstat()
        return stat.S_ISDIR(kind.st_mode) and kind.st_uid == os.geteuid() and not stat.S_IMODE(kind.st_mode) & 0o077
    return False


def _is_left(path: Path) -> bool:
    """Whether nobody holds it, as far as this machine knows: on a disk that several share, it may be another's."""
    with suppress(OSError):
        lock = os.open(path / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.read(lock, 1024) == platform.node().encode()
        finally:
            os.close(lock)
    return False


def _holders(lock: Path) -> set[int]:
    """The processes that have a file open."""
    wanted, found = lock.stat(), set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it is gone, or somebody else's
            if os.path.samestat(wanted, descriptor.stat()):
                found.add(int(descriptor.parts[2]))
    return found


def _keep(path: Path) -> None:
    """Wait for a line, or that nobody is left who could write one, and end and remove what is there."""
    sys.stdin.buffer.readline()
    until = time.monotonic() + SECONDS_TO_END
    while not _is_left(path) and time.monotonic() < until:
        time.sleep(0.05)
    with suppress(OSError):
        for process in _holders(path / LOCK):
            os.kill(process, signal.SIGKILL)
    until = time.monotonic() + SECONDS_TO_REMOVE
    while path.exists() and time.monotonic() < until:
        shutil.rmtree(path, ignore_errors=True)  # a process that is about to end may still write
        time.sleep(0.05)


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
