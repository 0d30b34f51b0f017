"""The folder of a run's own Ray: nobody else looks into it, and it goes with the run, however that ends.

    sieve-RANDOM/lock     held by the run and by every process of its Ray; says on which machine
                 token    what Ray's servers ask everybody for
                 r/       sockets, logs, spilled objects: Ray opens it to all, behind a door that is closed

As a script, which needs nothing but Python's own library, it is the keeper: it waits until its run lets go or is
killed, ends what is then left of its Ray, and removes the folder.
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
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(r"sieve-[a-z0-9_]{8}")
LOCK, TOKEN, RAYS_OWN = "lock", "token", "r"
LONGEST = len(f"/sieve-12345678/{RAYS_OWN}")
SECONDS_TO_END = 2.0
"""What is killed with its parent, or misses its servers, is gone by then."""
SECONDS_TO_REMOVE = 10.0


@dataclass(frozen=True)
class RayFolder:
    """A folder that is in use.

    Attributes:
        path: Where it is.
        lock: The descriptor of its lock, for Ray's processes to inherit.
        keeper: The process that removes it.
    """

    path: Path
    lock: int
    keeper: subprocess.Popen[bytes]

    @classmethod
    def make(cls, around: Path) -> RayFolder:
        """A new one in the folder ``around``.

        Raises:
            OSError: It cannot be made.
        """
        path = Path(tempfile.mkdtemp(prefix="sieve-", dir=around))  # for its owner alone
        try:
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.write(lock, platform.node().encode())
            with open(path / TOKEN, "w", opener=lambda name, flags: os.open(name, flags | os.O_EXCL, 0o600)) as token:
                token.write(secrets.token_hex(32))
            return cls(path, lock, _start_keeper(path))
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise

    def hand_over(self) -> None:
        """Leave the lock to Ray's processes, once they have inherited it: what this one forks is none of them."""
        os.close(self.lock)

    def give_up(self) -> None:
        """Have it removed, with what is left of Ray's processes."""
        with suppress(subprocess.TimeoutExpired):
            self.keeper.communicate(b"\n", SECONDS_TO_END + SECONDS_TO_REMOVE)


def _start_keeper(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-IS", __file__, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def place_of_ray() -> tuple[str, Path]:
    """The variable that says where Ray has its folder, empty where none does, and the place."""
    named = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "")
    return named, Path(os.environ.get(named, tempfile.gettempdir())).absolute()


def left_behind(around: Path) -> list[Path]:
    """The folders of runs on this machine, of this user, all of whose processes are gone."""
    found = [path for path in around.glob("sieve-*") if NAME.fullmatch(path.name)]
    return [path for path in found if _is_private(path) and _is_left(path)]


def remove_left_behind(around: Path) -> None:
    """Remove them: of runs that were killed together with their keepers, or with the machine."""
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
