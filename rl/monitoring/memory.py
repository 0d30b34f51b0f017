"""Peak memory of a run: this process and all it started, Ray's workers among them."""

from __future__ import annotations

import threading

import psutil

INTERVAL = 2.0


class PeakMemory:
    """While inside, watches the memory of this process and its descendants every two seconds.

    Memory that processes share counts once (proportional set size) where the system tells it.

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
        while True:
            self.gib = max(self.gib, memory_in_use())
            if self._done.wait(INTERVAL):
                return


def memory_in_use() -> float:
    """What this process and its descendants hold now, in GiB."""
    here = psutil.Process()
    total = 0
    for process in [here, *here.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except AttributeError:  # only Linux knows the proportional set size
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total / 2**30
