"""Which columns of a table hold what a prompt is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Image, Json, LargeList, List, Value

from rewards.records import PromptError
from rl.tasks.tables import Table

FIELDS = ("question", "answer", "images", "source", "choices", "unit", "precision")
# Read where there is a column of that name; the other fields only if the configuration names a column.
BY_NAME = ("question", "answer", "images", "source")
REQUIRED = ("question", "answer", "images")
BATCH = 1000
"""Rows that are read at once."""


class Columns:
    """The rows of a table as fields of a prompt. Nothing is decoded, and no row is kept.

    A column's name may lead into a struct: ``metadata.source``. That of ``images`` may be several, ``left, right``, or
    a pattern, ``image_*``, whose columns come in the order of the numbers in their names.

    Args:
        table: The table.
        names: Which column holds a field, where the names differ; see `check_fields`.

    Raises:
        ValueError: A column is missing, or a question or an answer is; names table, row and column.
    """

    def __init__(self, table: Table, names: Mapping[str, str]) -> None:
        self.table = table
        self._columns: dict[str, tuple[str, ...]] = {}
        for field in FIELDS:
            found = _find(table.rows, names.get(field, field), several=field == "images")
            if found and (field in BY_NAME or field in names):
                self._columns[field] = found
            elif field in names or field in REQUIRED:
                there = ", ".join(table.rows.column_names)
                raise ValueError(
                    f"{table.name}: no column {names.get(field, field)!r} for {field}; there are {there}; "
                    f"name another with task.columns.{field}"
                )
        self._stored = Features({name: _stored(kind) for name, kind in table.rows.features.items()})
        self._rows = self._only(FIELDS)
        for field in ("question", "answer"):
            self._check_present(field)

    def __len__(self) -> int:
        return len(self.table.rows)

    def has(self, field: str) -> bool:
        return field in self._columns

    def row(self, position: int) -> dict[str, Any]:
        """The fields that the table has: images as a list of what the table holds (None where there is none), all
        others as they are."""
        (values,) = self._plain(self._rows[position], position)
        return self._fields(values, tuple(self._columns))

    def everything(self, position: int) -> dict[str, Any]:
        """All columns of a row as the table holds them, but for pictures and other bytes."""
        plain = [name for name, kind in self.table.rows.features.items() if not _holds_bytes(kind)]
        (values,) = self._plain(self.table.rows.select_columns(plain).with_format("arrow")[position], position)
        return dict(values)

    def walk(self, *fields: str) -> Iterator[dict[str, Any]]:
        """These fields of every row, in order."""
        for place, batch in enumerate(self._only(fields).iter(batch_size=BATCH)):
            for values in self._plain(batch, place * BATCH):
                yield self._fields(values, fields)

    def sources(self) -> set[str]:
        """The sources of all rows."""
        if not self.has("source"):
            return {self.table.source}
        return {self.source(row["source"]) for row in self.walk("source")}

    def source(self, value: Any) -> str:
        """A row's source, given what its column says."""
        return self.table.source if value in (None, "") else str(value)

    def problem(self, position: int, field: str, what: object) -> PromptError:
        """An error in one row, to be raised."""
        columns = ", ".join(map(repr, self._columns[field]))
        return PromptError(f"{self.table.name}: row {position}: column {columns}: {what}")

    def _plain(self, rows: pa.Table, first: int) -> list[dict[str, Any]]:
        """What rows from the position ``first`` on hold."""
        try:
            return rows.to_pylist()
        except UnicodeDecodeError as error:
            if rows.num_rows == 1:
                what = f"a text that is not UTF-8: {error.reason}"
                raise PromptError(f"{self.table.name}: row {first}: {what}; allowed is UTF-8") from None
            return [
                values
                for place in range(rows.num_rows)
                for values in self._plain(rows[place : place + 1], first + place)
            ]

    def _only(self, fields: tuple[str, ...]) -> Dataset:
        heads = {_head(self.table.rows, name): None for field in fields for name in self._columns.get(field, ())}
        return self.table.rows.select_columns(list(heads)).with_format("arrow")

    def _fields(self, values: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
        values = self._stored.decode_example(dict(values))
        found = {field: [_lookup(values, name) for name in self._columns[field]] for field in fields}
        images = found.pop("images", [])
        listed = [image for each in images for image in (each if isinstance(each, list) else [each])]
        return {field: value for field, (value,) in found.items()} | ({"images": listed} if images else {})

    def _check_present(self, field: str) -> None:
        (name,) = self._columns[field]
        if name in self.table.rows.column_names:
            column = self.table.rows.data.column(name)
            if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
                raise ValueError(
                    f"{self.table.name}: column {name!r} for {field} is of type {column.type}; allowed is text or a "
                    f"number; name another with task.columns.{field}"
                )
            missing = column.is_null()
            if field == "answer" and (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
                missing = pc.or_(missing, pc.equal(pc.utf8_trim_whitespace(pc.fill_null(column, "")), ""))
            position = missing.index(True).as_py()
        else:
            values = (row[field] for row in self.walk(field))
            position = next((place for place, value in enumerate(values) if value in (None, "")), -1)
        if position >= 0:
            raise self.problem(position, field, f"no {field}; allowed is text or a number")


def check_fields(names: Mapping[str, str]) -> None:
    """Raises ValueError if a column map speaks of a field that prompts do not have."""
    if unknown := set(names) - set(FIELDS):
        raise ValueError(f"task.columns: no field {min(unknown)!r}; allowed: {', '.join(FIELDS)}")


def _find(rows: Dataset, name: str, several: bool) -> tuple[str, ...]:
    """The columns that a name stands for; none if one of them is missing."""
    if _exists(rows, name):
        return (name,)
    if not several:
        return ()
    found: list[str] = []
    for part in (part.strip() for part in name.split(",")):
        matching = [part] if _exists(rows, part) else [each for each in rows.column_names if fnmatchcase(each, part)]
        if not matching:
            return ()
        found += sorted(matching, key=_by_number)
    return tuple(found)


def _exists(rows: Dataset, name: str) -> bool:
    if name in rows.column_names:
        return True
    head, *keys = name.split(".")
    kind = rows.features.get(head)
    for key in keys:
        kind = kind.get(key) if isinstance(kind, dict) else kind if isinstance(kind, Json) else None
    return kind is not None


def _head(rows: Dataset, name: str) -> str:
    return name if name in rows.column_names else name.split(".")[0]


def _lookup(values: Mapping[str, Any], name: str) -> Any:
    if name in values:
        return values[name]
    value: Any = values
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _stored(kind: Any) -> Any:
    """A kind of column with its images left as the bytes or paths that they are."""
    if isinstance(kind, Image):
        return Image(decode=False)
    if isinstance(kind, List | LargeList):
        return type(kind)(_stored(kind.feature))
    return {name: _stored(each) for name, each in kind.items()} if isinstance(kind, dict) else kind


def _holds_bytes(kind: Any) -> bool:
    if isinstance(kind, Image) or (isinstance(kind, Value) and pa.types.is_binary(kind.pa_type)):
        return True
    if isinstance(kind, List | LargeList):
        return _holds_bytes(kind.feature)
    return isinstance(kind, dict) and any(map(_holds_bytes, kind.values()))


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
