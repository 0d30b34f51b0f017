"""A user's verifier that breaks after a while."""

from __future__ import annotations

from rewards.verification.verifiers import exact

GOOD = 250
calls = 0


def failing(completion: str, reference: str) -> bool:
    global calls
    calls += 1
    if calls > GOOD:
        raise ValueError("the oracle\nis silent")
    return exact(completion, reference)
