"""Equality of mathematical expressions by math-verify, which is handed to a process of its own.

What a policy writes may keep sympy busy for ever, or ask for more memory than there is, as ``10^{10^{10}}`` does, and
no signal handler of Python's interrupts a library that does not come back. So the expressions are compared in a child
process, which the system ends when a comparison takes too much processor time or memory; then they are not equal, and
the next comparison starts another child.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from functools import lru_cache

SECONDS = 3.0
"""Processor time of one comparison."""
MEMORY = 4 * 2**30
"""Address space of the child, bytes."""
_READY = "ready\n"


class Comparer:
    """The child process; it ends with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def equal(self, answer: str, reference: str) -> bool:
        """Whether math-verify finds the answer equal to the reference. Either may be LaTeX or plain text.

        Raises:
            RuntimeError: math-verify does not start.
        """
        with self._lock:
            child = self._child = self._child or _start()
            assert child.stdin is not None and child.stdout is not None
            verdict = ""
            with suppress(BrokenPipeError):
                child.stdin.write(json.dumps([answer, reference]) + "\n")
                child.stdin.flush()
                verdict = child.stdout.readline()
            if not verdict:
                child.communicate()
                self._child = None
            return verdict == "equal\n"


_comparer = Comparer()


@lru_cache(maxsize=2**16)
def equal_expressions(answer: str, reference: str) -> bool:
    """`Comparer.equal`, with one child for the whole process, and remembering what was compared."""
    return _comparer.equal(answer, reference)


def _start() -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "rewards.verification.latex"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C is for the parent, which may want to finish its step
    )
    assert child.stdout is not None
    if child.stdout.readline() != _READY:
        child.communicate()
        raise RuntimeError("the process that compares LaTeX did not start: is math-verify installed?")
    return child


def _serve() -> None:
    """The child: for each line with an answer and a reference, says whether they are equal."""
    import logging
    import resource
    import signal

    from math_verify import parse, verify

    logging.disable()
    with suppress(ValueError, OSError):  # not every system limits it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.stdout.write(_READY)
    sys.stdout.flush()
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # when it is up, the system ends the process
        answer, reference = (parse(_marked(text), parsing_timeout=0) for text in json.loads(line))
        equal = bool(answer and reference) and verify(reference, answer, timeout_seconds=0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write("equal\n" if equal else "not equal\n")
        sys.stdout.flush()


def _marked(text: str) -> str:
    """The text as math-verify looks for expressions: between dollar signs, unless it has its own marks."""
    marked = any(mark in text for mark in ("$", r"\boxed", r"\(", r"\["))
    return text if marked else f"${text}$"


if __name__ == "__main__":
    _serve()
