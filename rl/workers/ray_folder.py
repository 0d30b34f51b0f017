"""The folder of a run's own Ray: nobody else looks into it, and it goes with the run, however that ends.

    sieve-RANDOM/lock     held by the run and by every process of its Ray; says on which machine
                 token    what Ray's servers ask everybody for
                 r/       sockets, logs, spilled objects: Ray opens it to all, behind a door that is closed

Its keeper, a process of its own, ends what is left of a run's Ray, too; see `rewards.files.held_folder`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rewards.files import held_folder
from rewards.files.held_folder import SECONDS_TO_END, SECONDS_TO_REMOVE, hold_new_folder

TOKEN, RAYS_OWN = "token", "r"
LONGEST = len(f"/sieve-12345678/{RAYS_OWN}")


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
        path, lock = hold_new_folder(around)
        try:
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
        [sys.executable, "-IS", held_folder.__file__, str(path)],
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
