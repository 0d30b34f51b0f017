"""Standard output, as rich sees it."""

from __future__ import annotations

import sys

from rich.console import Console as Terminal


def open_terminal() -> Terminal:
    """A terminal only where there is one: a file or a pipe gets no escape codes, whatever FORCE_COLOR says."""
    return Terminal(highlight=False, force_terminal=sys.stdout.isatty())
