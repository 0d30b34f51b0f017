"""How a command of ``sieve`` ends when it cannot go on: one line, and an exit code."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer

from rl.errors import ConfigError
from rl.monitoring.terminal import printable

USER_ERROR, FAILURE = 2, 1

Errors = tuple[type[Exception], ...]

# A model, and what comes with its checkpoint, fails in many ways.
MODEL_FAILURES: Errors = (RuntimeError, ValueError, OSError)


@contextmanager
def one_line(
    again: str | Callable[[], str] = "",
    wrong: Errors = (),
    failed: Errors = (RuntimeError, OSError),
    stopped: str = "stopped",
) -> Iterator[None]:
    """While inside, what ends the command is said on stderr in one line, without a traceback.

    Args:
        again: What is there by then, and how to go on: told of failures and of Ctrl-C. A function is called only then.
        wrong: What says, beside `ConfigError`, that the input is wrong, with exit code 2.
        failed: What says that something failed, with exit code 1; anything else is an error of the program.
        stopped: What is said of Ctrl-C, with exit code 1.
    """
    refused: Errors = (ConfigError, *wrong)
    try:
        yield
    except typer.Exit:  # a RuntimeError, and said already
        raise
    except refused as error:
        fail(printable(str(error)), USER_ERROR)
    except failed as error:
        fail(_followed(" ".join(str(error).split()), again), FAILURE)
    except KeyboardInterrupt:
        fail(_followed(stopped, again), FAILURE)


def stop_as_on_ctrl_c() -> None:
    """Have SIGTERM and SIGHUP end a command as Ctrl-C does, so that nothing half made stays on the disk.

    Each does so once: `timeout` and batch schedulers send theirs to the process, and once more to all of its group.
    What `nohup` has ignored stays so.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def stop_no_more() -> None:
    """All is done: what would stop the command is not heard while Python takes itself apart, where it would be a
    traceback, or another exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def fail(message: str, code: int) -> NoReturn:
    """Say it on stderr and exit."""
    typer.echo("\n".join(map(printable, f"sieve: {message}".split("\n"))), err=True)
    raise typer.Exit(code)


def _followed(message: str, again: str | Callable[[], str]) -> str:
    told = again if isinstance(again, str) else again()
    return f"{message}; {told}" if told else message
