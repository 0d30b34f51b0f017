"""How far something long has come: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

SECONDS_BETWEEN_LINES = 5.0

# Control characters, line ends of Unicode, marks that turn the order of writing, halves of characters.
_STEERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""A text in one line, with what would steer a terminal, or cannot be written to one, as Python writes it.

    >>> print(printable("a\x1b[31m\nb é 😀"))
    a\x1b[31m\nb é 😀
    """
    return _STEERS.sub(lambda found: repr(found[0])[1:-1], text)


def say(terminal: Terminal, text: str) -> None:
    """Print lines as they are written: nothing in them is markup, and nothing steers the terminal."""
    terminal.print("\n".join(map(printable, text.split("\n"))), markup=False, soft_wrap=True)


def cell(text: str) -> Text:
    """Of a table, likewise."""
    return Text(printable(text))


@contextmanager
def progress_bar(
    what: str, total: int, done: int = 0, terminal: Terminal | None = None, lines: bool = True
) -> Iterator[Callable[[int], None]]:
    """Show ``what`` at ``done`` of ``total``; call what it gives with how many more are done.

    A terminal that shows something else already has to be given: the bar then stands below that. Who tells of the
    progress in lines of their own can do without these.

    >>> with progress_bar("solutions", 4, done=2) as advance:
    ...     advance(2)
    solutions 4/4
    """
    terminal = terminal or open_terminal()
    if not terminal.is_interactive:
        yield _Lines(what, total, done) if lines else lambda more: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=terminal) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda more: bar.advance(task, more)


@contextmanager
def waiting(what: str, terminal: Terminal | None = None) -> Iterator[None]:
    """Show that something is under way of which nobody knows how far it is: a bar with the time that it has taken.

    It goes when that is done. Where there is no terminal, a line says what begins.

    >>> with waiting("the engine starts"):
    ...     pass
    the engine starts …
    """
    terminal = terminal or open_terminal()
    if not terminal.is_interactive:
        print(f"{what} …", flush=True)
        yield
        return
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=terminal, transient=True) as bar:
        bar.add_task(what, total=None)
        yield


class _Lines:
    """Prints a line every few seconds, and when all is done."""

    def __init__(self, what: str, total: int, done: int) -> None:
        self._what, self._total, self._done, self._before = what, total, done, done
        self._began = self._told = time.monotonic()

    def __call__(self, more: int) -> None:
        self._done += more
        now = time.monotonic()
        finished = self._done >= self._total
        if not finished and now - self._told < SECONDS_BETWEEN_LINES:
            return
        self._told = now
        line = f"{self._what} {self._done:,}/{self._total:,}"
        if not finished:
            left = (now - self._began) / (self._done - self._before) * (self._total - self._done)
            line += f"  {timedelta(seconds=round(left))} left"
        print(line, flush=True)


def typed_command(name: str) -> str:
    """The command by its name where the environment is activated, and by its path where it is not."""
    if shutil.which(name):
        return name
    beside = Path(sys.executable).parent / name
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


def open_terminal() -> Terminal:
    """A terminal only where there is one: a file or a pipe gets no escape codes, whatever FORCE_COLOR says."""
    return Terminal(highlight=False, force_terminal=sys.stdout.isatty())
