"""Rows of a table, as its file has them, read when they are asked for."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol
from weakref import finalize

from rewards.files.plain_text import open_lines, open_text
from rewards.records import PromptError
from rl.tasks.values import parse_json


class Rows(Protocol):
    """What a table is read through. A name may lead into a struct, ``metadata.source``."""

    @property
    def names(self) -> Sequence[str]:
        """The columns, in order."""
        ...

    def __len__(self) -> int: ...

    def has(self, name: str) -> bool:
        """Whether there is a column of that name."""
        ...

    def read(self, columns: Sequence[str], positions: range) -> Iterator[dict[str, Any]]:
        """These columns of the rows, or more of them; a row that has no such column may leave it out."""
        ...


class JsonRows:
    """JSON lines, or the entries of a JSON list: one an object. They stay on the disk, and numbers as they are written.

    Args:
        name: For messages.
        file: See `rewards.files.plain_text.open_lines`.

    Raises:
        ValueError: A line is no object; names the line.
        PromptError: One is not UTF-8; names the row.
    """

    def __init__(self, name: str, file: Path) -> None:
        self._name, self._lines = name, open_lines(file)
        finalize(self, self._lines.close)
        self._offsets = array("q")
        found: dict[str, None] = {}
        names: dict[str, None] = {}
        offset = 0
        for number, line in enumerate(self._lines, start=1):
            if line.strip():
                self._offsets.append(offset)
                content = self._parsed(line, len(self) - 1, f"line {number}: ")
                names |= dict.fromkeys(content)
                found |= dict.fromkeys(_paths(content))
            offset += len(line)
        self._known = found.keys()
        self.names = list(names)

    def __len__(self) -> int:
        return len(self._offsets)

    def has(self, name: str) -> bool:
        return name in self._known

    def read(self, columns: Sequence[str], positions: range) -> Iterator[dict[str, Any]]:
        for position in positions:
            self._lines.seek(self._offsets[position])
            yield self._parsed(self._lines.readline(), position, f"row {position} has changed: ")

    def _parsed(self, line: bytes, position: int, where: str) -> dict[str, Any]:
        try:
            content = parse_json(line.decode().strip())
        except UnicodeDecodeError as error:
            what = f"a text that is not UTF-8: {error.reason}; allowed is UTF-8"
            raise PromptError(f"{self._name}: row {position}: {what}") from None
        except ValueError as error:
            raise ValueError(f"{where}not JSON: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise ValueError(f"{where}not an object; allowed is one a line")
        return content


class CsvRows:
    """Comma-separated values, or such with semicolons or tabs: a line of names, and a row a line. All values are text,
    and empty ones are none.

    Args:
        name: For messages.
        file: See `rewards.files.plain_text.open_text`.

    Raises:
        ValueError: A row has not as many cells as there are names, or a name stands twice; names the line.
    """

    def __init__(self, name: str, file: Path) -> None:
        with open_text(file) as stream:
            content = stream.read()
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ValueError(f"line {line}: not UTF-8: {error.reason}; allowed is UTF-8") from None
        # It is of all readers of this process, such as those of installed packages: it only grows.
        csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
        self._rows: list[list[str]] = []
        self.names: list[str] = []
        try:
            for cells in reader:
                self._add(cells, reader.line_num)
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}") from None

    def __len__(self) -> int:
        return len(self._rows)

    def has(self, name: str) -> bool:
        return name in self.names

    def read(self, columns: Sequence[str], positions: range) -> Iterator[dict[str, Any]]:
        for position in positions:
            yield {name: cell or None for name, cell in zip(self.names, self._rows[position], strict=True)}

    def _add(self, cells: list[str], line: int) -> None:
        if not cells:
            return
        if not self.names:
            self.names = [cell.strip() for cell in cells]
            if len(set(self.names)) < len(self.names):
                raise ValueError(f"line {line}: a column's name stands twice: {', '.join(self.names)}")
        elif len(cells) != len(self.names):
            raise ValueError(f"line {line}: {len(cells)} cells for {len(self.names)} columns")
        elif any(cells):
            self._rows.append(cells)


class JoinedRows:
    """Some rows of several tables, one after the other."""

    def __init__(self, parts: Sequence[tuple[Rows, range]]) -> None:
        self._parts = parts
        self.names = list(dict.fromkeys(name for rows, _ in parts for name in rows.names))

    def __len__(self) -> int:
        return sum(len(places) for _, places in self._parts)

    def has(self, name: str) -> bool:
        return any(rows.has(name) for rows, _ in self._parts)

    def read(self, columns: Sequence[str], positions: range) -> Iterator[dict[str, Any]]:
        before = 0
        for rows, places in self._parts:
            inside = range(max(positions.start - before, 0), min(positions.stop - before, len(places)))
            if inside:
                yield from rows.read(columns, places[inside.start : inside.stop])
            before += len(places)


def look_up(values: Any, name: str) -> Any:
    """The value of a column of a row, perhaps within a struct; None where there is none.

    >>> look_up({"a": {"b": 1}, "c.d": 2}, "a.b"), look_up({"a": {"b": 1}, "c.d": 2}, "c.d"), look_up({}, "a.b")
    (1, 2, None)
    """
    if name in values:
        return values[name]
    for key in name.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _paths(values: dict[str, Any], before: str = "") -> Iterable[str]:
    """The names that lead to the values of an object, and of those within it."""
    for name, value in values.items():
        yield before + name
        if isinstance(value, dict):
            yield from _paths(value, f"{before}{name}.")


def _delimiter(text: str) -> str:
    """What parts the cells of a table: comma, semicolon or tab, whichever finds as many cells, and most, in its first
    two rows."""

    def found(delimiter: str) -> tuple[bool, int]:
        rows = filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        try:
            names, cells = len(next(rows, [])), len(next(rows, []))
        except csv.Error:
            return False, 0
        return names == cells > 1, names

    return max(",;\t", key=found)
