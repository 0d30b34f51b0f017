"""Answers on disk, so that nothing is paid for twice; several processes may share the file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from rewards.files.whole_file import opened_here

PROGRAMS = "select 1 from sqlite_master where type in ('view', 'trigger')"
"""What a stranger's file could have in a table's place, to go on for ever; ours have none."""
WAIT = 5.0
"""Seconds to wait for another process that is writing."""


class AnswerCache:
    """Answers by the digest of what was asked, in an SQLite file. For use within one thread.

    A file that cannot be read or written is never mended or deleted, and raises nothing: the cache then knows nothing,
    takes nothing, and says in ``failed`` that this happened.

    Args:
        path: The file, made where there is none; None for no cache.
        table: Of these answers; a file may have several.
        column: Its name and kind, in SQL.
    """

    def __init__(self, path: Path | None, table: str, column: str) -> None:
        self.failed = False
        self._get = f"select {column.split()[0]} from {table} where key = ?"
        self._put = f"insert or replace into {table} values (?, ?)"
        self._connection: sqlite3.Connection | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite itself would write through a link into whatever database of the user's it leads to.
            os.close(opened_here(str(path), os.O_RDWR | os.O_CREAT))
            self._connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
            if self._connection.execute(PROGRAMS).fetchone():
                raise sqlite3.DatabaseError
            self._connection.execute(f"create table if not exists {table} (key text primary key, {column})")
        except (sqlite3.Error, OSError):
            self._give_up()

    def get(self, key: str) -> object:
        """What was answered; None if it is not known."""
        row = self._execute(self._get, key)
        return row[0] if row else None

    def put(self, key: str, answer: object) -> None:
        """Remember an answer; of two for one key, the later counts."""
        self._execute(self._put, key, answer)

    def __enter__(self) -> Self:
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
