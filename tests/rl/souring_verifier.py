"""A verifier that finds nothing right after a while: what an MPRM that is hacked looks like, at once."""

from __future__ import annotations

calls = 0
GOOD = 20


def souring(text: str, answer: str) -> bool:
    global calls
    calls += 1
    return calls <= GOOD
