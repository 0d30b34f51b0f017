"""The command line as a user runs it, what a run leaves behind, and its processes while it is under way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "configs" / "smoke.yaml"
SIEVE = Path(sys.executable).parent / "sieve"
TIMED = ("perf/", "annotation/seconds", "annotation/saved_seconds")
PATIENCE = 240
"""Seconds to wait for what a run is to do next, on a machine with much else to do."""


def environment(**further: str) -> dict[str, str]:
    """A user's, who can import modules of his own."""
    return os.environ | {"PYTHONPATH": str(ROOT)} | further


def sieve(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, from the repository's root."""
    command = [str(SIEVE), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, cwd=ROOT, env=environment()
    )


def metrics(run: Path, timed: bool = False) -> dict[int, dict[str, float]]:
    """All scalars by step, without those that measure time unless they are wanted."""
    merged: dict[int, dict[str, float]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        kept = {name: value for name, value in values.items() if timed or not name.startswith(TIMED)}
        merged.setdefault(values["step"], {}).update(kept)
    return merged


def checkpoints(run: Path) -> list[str]:
    """What is in the folder of checkpoints, finished or not."""
    return sorted(path.name for path in (run / "checkpoints").iterdir())


class Running:
    """A command under way, which a test looks at and interferes with."""

    def __init__(self, *arguments: object, **environment_: str) -> None:
        self._process = subprocess.Popen(
            [str(SIEVE), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=environment(**environment_),
        )
        self.pid, self.said = self._process.pid, ""

    def wait_for(self, words: str) -> str:
        """Read on until a line has these words; gives the line."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said += line
            if words in line:
                return line
        raise AssertionError(f"it ended without saying {words!r}:\n{self.said}")

    def workers(self) -> list[psutil.Process]:
        """Ray's worker processes, which run below the command's own."""
        return [child for child in psutil.Process(self.pid).children(recursive=True) if "ray::" in _title(child)]

    def busy_with(self, call: str) -> psutil.Process:
        """A worker that is in the middle of a call, for example ``mprm.update``."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self._process.poll() is None:
            for worker in self.workers():
                for _ in range(50):
                    if _title(worker) == f"ray::{call}":
                        return worker
        raise AssertionError(f"nobody was busy with {call}:\n{self.said}")

    def stop(self) -> tuple[int, str]:
        """Ask it to finish its step and end; see `end`."""
        self._process.terminate()
        return self.end()

    def end(self) -> tuple[int, str]:
        """Wait for its end: the exit code, and everything it said."""
        rest, _ = self._process.communicate(timeout=PATIENCE)
        self.said += rest
        return self._process.returncode, self.said


def outliving(processes: Sequence[psutil.Process], seconds: float = PATIENCE) -> list[psutil.Process]:
    """Those that have not ended after so long; one that has ended and that nobody has asked about is no process."""
    until = time.monotonic() + seconds
    while (there := [process for process in processes if _runs(process)]) and time.monotonic() < until:
        time.sleep(0.2)
    return there


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _title(process: psutil.Process) -> str:
    """What a process calls itself; nothing once it is gone."""
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return ""
