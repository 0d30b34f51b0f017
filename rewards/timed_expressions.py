"""Regular expressions of a configuration, which may be a stranger's: one that tries too many ways is named, and hangs
nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import regex

from rewards.users_code import UsersCodeError

SECONDS = 5.0
"""For a look at one text."""


def find_all(expression: str, text: str) -> list[regex.Match[str]]:
    r"""All matches, from left to right.

    Raises:
        UsersCodeError: It takes too long.

    >>> [match.span() for match in find_all(r"\n+", "a\n\nb\n")]
    [(1, 3), (4, 5)]
    """
    with _named(expression, text):
        return list(regex.finditer(expression, text, timeout=SECONDS))


def match_start(expression: str, text: str) -> regex.Match[str] | None:
    """The match that a text begins with.

    Raises:
        UsersCodeError: It takes too long.
    """
    with _named(expression, text):
        return regex.match(expression, text, timeout=SECONDS)


@contextmanager
def _named(expression: str, text: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise UsersCodeError(
            f"the regular expression {expression[:200]!r} takes more than {SECONDS:g} s on a text of {len(text):,} "
            "characters; allowed is one that tries fewer ways"
        ) from None
