"""Verifiers: is the final answer of a completion right? One function each, ``(completion, reference) -> bool``."""

from __future__ import annotations

import re
from collections.abc import Callable

Verifier = Callable[[str, str], bool]


def exact(completion: str, reference: str) -> bool:
    """The text after the last ``Answer:`` equals the reference, up to surrounding white space.

    >>> exact("Step 1: 2 + 2 = 4\\nAnswer: 4", "4"), exact("4", "4")
    (True, False)
    """
    _, marker, answer = completion.rpartition("Answer:")
    return bool(marker) and answer.strip() == reference.strip()


def boxed(completion: str, reference: str) -> bool:
    r"""The last ``\boxed{…}`` (without nested braces), or the last number where nothing is boxed, equals the reference.

    >>> boxed(r"so \boxed{12} apples", "12"), boxed("that makes 7 or 12", "12")
    (True, True)
    """
    _, marker, last = completion.rpartition(r"\boxed")
    found = re.findall(r"^\{([^{}]*)\}", last) if marker else re.findall(r"-?\d+(?:\.\d+)?", completion)
    return bool(found) and found[-1].strip() == reference.strip()


VERIFIERS: dict[str, Verifier] = {"exact": exact, "boxed": boxed}
