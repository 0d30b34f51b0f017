"""A judge's verdicts on disk, so that nothing is paid for twice; several processes may share the file."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from types import TracebackType

WAIT = 5.0
"""Seconds to wait for another process that is writing."""


class JudgeCache:
    """First wrong steps by the digest of what was asked, in an SQLite file. For use within one thread.

    A file that cannot be read or written is never mended or deleted, and raises nothing: the cache then knows nothing,
    takes nothing, and says in ``failed`` that this happened.

    Args:
        path: The file, made where there is none; None for no cache.
    """

    def __init__(self, path: Path | None) -> None:
        self.failed = False
        self._connection: sqlite3.Connection | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
            self._connection.execute("create table if not exists verdicts (key text primary key, first_wrong integer)")
        except (sqlite3.Error, OSError):
            self._give_up()

    def get(self, key: str) -> int | None:
        """The first wrong step, counted from 1, or 0 for none; None if it is not known."""
        row = self._execute("select first_wrong from verdicts where key = ?", key)
        return row[0] if row and isinstance(row[0], int) else None

    def put(self, key: str, first_wrong: int) -> None:
        """Remember a verdict; of two for one key, the later counts."""
        self._execute("insert or replace into verdicts values (?, ?)", key, first_wrong)

    def __enter__(self) -> JudgeCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def _execute(self, statement: str, *values: object) -> tuple[object, ...] | None:
        if self._connection is None:
            return None
        try:
            return self._connection.execute(statement, values).fetchone()
        except sqlite3.Error:
            self._give_up()
            return None

    def _give_up(self) -> None:
        self.failed = True
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None
