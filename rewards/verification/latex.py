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
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sympy import Basic

SECONDS = 3.0
"""Processor time of one comparison."""
MEMORY = 4 * 2**30
"""Address space of the child, bytes."""
_READY = "ready\n"
TOLERANCE = 1e-6
"""Largest difference where a decimal is compared, as a share of the larger number."""
_DIGITS = 50
"""Of numbers that no decimal stands in: they are equal where 40 digits are."""
_PLACES = (0.734, -1.291, 2.857, -0.418, 1.613, 3.309, -2.174, 0.167, 1.049)
_SCALES = (1.0, -1.0, 0.0, 1e-9, 1e9)
"""Where expressions with decimals and variables are compared: small terms show at small values, and at none."""

Comparison = Literal["equal", "different", "unreadable answer", "unreadable reference", ""]


class Comparer:
    """The child process; it ends with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def compare(self, answer: str, reference: str) -> Comparison:
        """Two expressions in LaTeX, each of which sympy must read whole; empty where the child did not survive.

        Raises:
            RuntimeError: math-verify does not start.
        """
        with self._lock:
            child = self._child = self._child or _start()
            assert child.stdin is not None and child.stdout is not None
            verdict = ""
            try:
                with suppress(BrokenPipeError):
                    child.stdin.write(json.dumps([answer, reference]) + "\n")
                    child.stdin.flush()
                    verdict = child.stdout.readline()
            finally:
                if not verdict:  # it has ended, or whoever asked does not wait for its word
                    child.kill()
                    child.wait()
                    self._child = None
            return verdict.strip()  # type: ignore[return-value]  # what `_serve` wrote


_comparer = Comparer()


@lru_cache(maxsize=2**16)
def compare_expressions(answer: str, reference: str) -> Comparison:
    """`Comparer.compare`, with one child for the whole process, and remembering what was compared."""
    return _comparer.compare(answer, reference)


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
    """The child: for each line with an answer and a reference, says how they compare."""
    import logging
    import resource
    import signal

    from math_verify import grader

    logging.disable()
    # math-verify compares to six decimal places, where 0.0000001 is 0.0000002, also within sets and matrices.
    by_elements = grader.sympy_numeric_eq
    grader.sympy_numeric_eq = lambda left, right, *places: (
        by_elements(left, right, *places) if hasattr(left, "shape") else _equal_numbers(left, right)
    )
    with suppress(ValueError, OSError):  # not every system limits it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.stdout.write(_READY)
    sys.stdout.flush()
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # when it is up, the system ends the process
        verdict = _compare(*json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(f"{verdict}\n")
        sys.stdout.flush()


def _compare(answer: str, reference: str) -> Comparison:
    from math_verify import verify

    right = _read(reference)
    if right is None:
        return "unreadable reference"
    found = right if answer == reference else _read(answer)
    if found is None:
        return "unreadable answer"
    return (
        "equal"
        if found is right or verify(right, found, timeout_seconds=0, allow_set_relation_comp=True)
        else "different"
    )


@lru_cache(maxsize=2**10)
def _read(latex: str) -> Basic | None:
    """The expression that the whole text is; None where the parser stops before its end, or it has no value."""
    from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
    from math_verify.grader import should_treat_as_complex
    from sympy import nan, zoo

    spelling = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    try:
        normal = normalize_latex(latex, spelling)
        found = latex2sympy(normal, is_real=not should_treat_as_complex(normal), normalization_config=None)
        return None if found in (nan, zoo) else _complex(found)
    except Exception:  # the parser raises as many kinds as there are ways to be no expression
        return None


def _complex(found: Basic) -> Basic:
    """With the letter i as the imaginary unit, where nothing counts with it."""
    from sympy import I

    unit = next((letter for letter in found.free_symbols if str(letter) == "i"), None)
    return found if unit is None else found.subs(unit, I)


def _equal_numbers(left: Basic, right: Basic) -> bool:
    """Whether two expressions are equal as numbers: in all digits, or within `TOLERANCE` where one has decimals; with
    decimals and variables, wherever that is tried."""
    from sympy import Float, N, Rational, S, nan, oo, zoo

    try:
        decimals = left.has(Float) or right.has(Float)
        if variables := sorted(left.free_symbols | right.free_symbols, key=str):
            places = [dict(zip(variables, map(scale.__mul__, _PLACES), strict=False)) for scale in _SCALES]
            pairs = [(left.subs(place), right.subs(place)) for place in places]
            defined = [pair for pair in pairs if not any(value.has(nan, oo, zoo) for value in pair)]
            return bool(decimals and defined) and all(_equal_numbers(*pair) for pair in defined)
        left, right = left.doit(), right.doit()
        if isinstance(left, Rational) and isinstance(right, Rational):
            return bool(left == right)
        tolerance = TOLERANCE * (1 + 1e-9) if decimals else 10.0 ** (10 - _DIGITS)
        one, other = N(left, _DIGITS), N(right, _DIGITS)
        if {one, other} & {S.Infinity, S.NegativeInfinity, S.ComplexInfinity}:
            return bool(one == other)
        return bool(abs(one - other) <= tolerance * max(abs(one), abs(other)))
    except (TypeError, AttributeError, ValueError):  # sets, relations, and what has no value
        return False


if __name__ == "__main__":
    _serve()
