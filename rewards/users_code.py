"""Code of the user's, called: whatever it raises, there is one line about it, and one where it does not come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rewards.overdue import named_when_overdue

LONGEST_WORDS = 500
"""Characters of what an error says."""


class UsersCodeError(RuntimeError):
    """A task, verifier, selector or credit rule of the user's failed, or gave what is none; the message says which and
    why, in one line."""


@contextmanager
def in_one_line(
    name: str,
    failing: str = "failed",
    kind: Callable[[str], Exception] = UsersCodeError,
    let_through: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Turn what the block raises, but for Ctrl-C, into an error of another kind, and name it where it does not end.

    Args:
        name: Of what is called, as ``task.verifier mine:verify``.
        failing: Follows the name in the message; the error's own kind and words come then.
        kind: Makes the error from its message.
        let_through: What is raised as it is.
    """
    try:
        with named_when_overdue(name):
            yield
    except let_through:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it can fail in any way, and `sys.exit` is one of them
        # Caused by a StopIteration, the new error would be taken for it by the `with` statement, and get lost.
        cause = None if isinstance(error, StopIteration) else error
        raise kind(f"{name} {failing}: {type(error).__name__}: {_words(error)}") from cause


def _words(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())[:LONGEST_WORDS]
    except KeyboardInterrupt:
        raise
    except BaseException:  # `sys.exit` in its own words, too
        return "it does not say what"
