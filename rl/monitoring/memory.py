"""Peak memory of a run: this process and all it started, Ray's workers among them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

INTERVAL = 2.0


class PeakMemory:
    """While inside, watches the memory of this process and its descendants every two seconds.

    Memory that processes share counts once (proportional set size) where the system tells it. It walks through all
    pages to tell, so it is asked only when a hundredth more is resident than ever before.

    Attributes:
        gib: The largest sum seen, in GiB.
    """

    def __init__(self) -> None:
        self.gib = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        most = 0.0
        while True:
            resident = _total(_processes(), lambda process: process.memory_info().rss)
            if resident > 1.01 * most:
                most = resident
                self.gib = max(self.gib, memory_in_use())
            if self._done.wait(INTERVAL):
                return


def memory_in_use() -> float:
    """What this process and its descendants hold now, in GiB."""
    return _total(_processes(), _proportional)


def _processes() -> list[psutil.Process]:
    here = psutil.Process()
    return [here, *here.children(recursive=True)]


def _total(processes: Sequence[psutil.Process], bytes_of: Callable[[psutil.Process], int]) -> float:
    """In GiB, without those that have ended."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += bytes_of(process)
    return total / 2**30


def _proportional(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except AttributeError:  # only Linux knows the proportional set size
        return int(process.memory_info().rss)
