"""Files that are whole whenever they are looked at, and files that are nobody else's."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOT_REGULAR = "allowed is a regular file, and no link"
NO_FILE = "it is no regular file"


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary name beside ``file``; it becomes ``file`` at the end, and vanishes if the block raises.

    Whatever happens meanwhile, ``file`` is what it was before or all of what it is to be. What one that was killed has
    left under that name goes, too; a second one at the same time has a name of its own.
    """
    temporary = file.with_name(f".{file.name}.partial")
    lock = _emptied(temporary)
    if lock is None:
        temporary = file.with_name(f".{file.name}.{os.getpid()}.partial")
        temporary.unlink(missing_ok=True)  # a link that somebody has put there would be followed
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def _emptied(file: Path) -> int | None:
    """The descriptor of an empty file at this very place, locked; None where another process may have it, and where it
    is also somewhere else."""
    try:
        descriptor = opened_here(str(file), os.O_RDWR | os.O_CREAT)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(descriptor)
        # Who had it before may have given it its own name in the meantime.
        if os.path.samestat(held, file.lstat()) and held.st_nlink == 1:
            os.truncate(descriptor, 0)
            return descriptor
    except OSError:
        pass  # it is locked, or the disk knows no locks
    os.close(descriptor)
    return None


def regular(path: str, flags: int) -> int:
    """An ``opener`` of Python's `open`: a regular file, perhaps by way of links. A pipe would be waited for, a device
    can go on for ever.

    Raises:
        OSError: Something else is there.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        raise OSError(errno.EINVAL, os.strerror(errno.EISDIR) if stat.S_ISDIR(kind) else NO_FILE, path)
    return descriptor


def content_of(file: str | Path) -> bytes:
    """All of a regular file.

    Raises:
        OSError: It cannot be read, or something else is there.
    """
    with open(file, "rb", opener=regular) as content:
        return content.read()


def opened_here(path: str, flags: int) -> int:
    """An ``opener`` of Python's `open`: a regular file at this very place. Who can write to the folder could have put a
    link there, to be emptied or written to in the user's name, or a pipe, to be waited for.

    Raises:
        OSError: Something else is there.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a pipe that nobody reads
            raise OSError(error.errno, NOT_REGULAR, path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, NOT_REGULAR, path)
    return descriptor
