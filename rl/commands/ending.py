"""How a command of ``sieve`` ends when it cannot go on: one line, and an exit code."""

from __future__ import annotations

from typing import NoReturn

import typer

USER_ERROR, FAILURE = 2, 1


def fail(message: str, code: int) -> NoReturn:
    """Say it on stderr and exit."""
    typer.echo(f"sieve: {message}", err=True)
    raise typer.Exit(code)
