"""A command in a process of its own that does not outlive who runs it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SECONDS_TO_STOP = 60
"""What a command gets to stop, a training run to finish its policy step and write a checkpoint, before it is killed."""


def run_to_its_end(command: Sequence[str], log: Path) -> int:
    """The exit code of a command; one that is interrupted is asked to stop, and killed when it does not."""
    # The Ray of the task that calls this is not for the run: it starts its own, which ends with it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal is for the study, which then stops its runs
            preexec_fn=_end_with_parent,
        )
        try:
            while process.poll() is None:
                # In short waits: Ray's request to stop is not heard inside of a long one.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
            return process.returncode
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(SECONDS_TO_STOP)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _end_with_parent() -> None:
    """Have the kernel ask this process to stop when the one that started it dies, in whatever way (Linux)."""
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGTERM)
