"""Code of the user's that does not come back: after a minute there is one line that names it.

Python cannot take a call away from its own process. But a signal interrupts it long enough to say so, a regular
expression and a wait for a server, too, beside which no other thread might get its turn.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread, current_thread, main_thread
from types import FrameType

SECONDS = 60.0
"""That one call may take before it is named."""
SECONDS_TO_SAY = 1.0

_overdue: list[str] = []
_named: set[str] = set()


def is_overdue() -> bool:
    """Whether a call is under way that takes so long that it may never come back."""
    return bool(_overdue)


@contextmanager
def named_when_overdue(name: str) -> Iterator[None]:
    """A block that takes longer than `SECONDS` is told of on stderr, the first time that ``name`` does.

    Nothing is told of a block in another thread than the first, where no signal comes, and of one that is entered while
    a timer runs already, as within another such block.
    """
    if current_thread() is not main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def tell(number: int, frame: FrameType | None) -> None:
        _overdue.append(name)
        if name not in _named:
            _named.add(name)
            _say(f"sieve: {name} has been running for {SECONDS:g} s, and is waited for; Ctrl-C now stops at once")

    before = signal.signal(signal.SIGALRM, tell)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
        _overdue.clear()


def _say(line: str) -> None:
    """The signal may have come in the middle of a line that is being printed, which one thread cannot do twice."""
    saying = Thread(target=lambda: print(line, file=sys.stderr, flush=True), daemon=True)
    saying.start()
    saying.join(SECONDS_TO_SAY)
