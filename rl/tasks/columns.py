"""Which columns of a table hold what a prompt is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from rewards.records import PromptError
from rl.tasks.arrow_rows import ArrowRows
from rl.tasks.choices import read_list
from rl.tasks.rows import Rows, look_up
from rl.tasks.tables import Table
from rl.tasks.values import as_plain, as_text, holds_bytes

FIELDS = ("question", "answer", "images", "source", "id", "choices", "unit", "precision")
# Read where there is a column of that name; the other fields only if the configuration names a column.
BY_NAME = ("question", "answer", "images", "source")
REQUIRED = ("question", "answer")


class Columns:
    """The rows of a table as fields of a prompt.

    A column's name may lead into a struct: ``metadata.source``. That of ``images`` may be several, ``left, right``, or
    a pattern, ``image_*``, whose columns come in the order of the numbers in their names; or empty, for none. Tables
    whose names differ share a map by alternatives, of which the first that is there counts: ``problem|question``, and
    ``options|`` where some have none.

    Args:
        table: The table.
        names: Which column holds a field, where the names differ; see `check_fields`.

    Raises:
        ValueError: A column is missing, or pictures are in one that nobody named.
    """

    def __init__(self, table: Table, names: Mapping[str, str]) -> None:
        self.table, rows = table, table.rows
        self._columns: dict[str, tuple[str, ...]] = {}
        for field in FIELDS:
            found = _find(rows, names.get(field, field), several=field == "images")
            if found and (field in BY_NAME or field in names):
                self._columns[field] = found
            elif (names.get(field) and not names[field].endswith("|")) or field in REQUIRED:
                raise ValueError(
                    f"{table.name}: no column {names.get(field, field)!r} for {field}; there are "
                    f"{', '.join(rows.names)}; name another with task.columns.{field}"
                )
        if "images" not in names and "images" not in self._columns and (unnamed := table.pictures):
            raise ValueError(
                f"{table.name}: no column 'images', and pictures in {', '.join(map(repr, unnamed))}; name it with "
                "task.columns.images, or nothing there for a task without pictures"
            )

    def __len__(self) -> int:
        return len(self.table.rows)

    def has(self, field: str) -> bool:
        return field in self._columns

    def row(self, position: int) -> dict[str, Any]:
        """The fields that the table has: images as a list of what the table holds (None where there is none), all
        others as they are."""
        (row,) = self.walk(range(position, position + 1))
        return row

    def everything(self, position: int) -> dict[str, Any]:
        """All columns of a row as they stand in the table, but for pictures of the library's type and bytes."""
        rows = self.table.rows
        typed = rows.pictures() if isinstance(rows, ArrowRows) else []
        names = [name for name in rows.names if name not in typed]
        (values,) = rows.read(names, range(position, position + 1))
        return {name: as_plain(values.get(name)) for name in names if not holds_bytes(values.get(name))}

    def walk(self, positions: range, *fields: str) -> Iterator[dict[str, Any]]:
        """These fields (all, if none is named) of the rows in these places, in order."""
        names = {field: self._columns[field] for field in fields or FIELDS if self.has(field)}
        columns = [name for each in names.values() for name in each]
        for values in self.table.rows.read(columns, positions):
            found = {field: [look_up(values, name) for name in each] for field, each in names.items()}
            images = [image for each in found.pop("images", []) for image in _listed(each)]
            yield {field: value for field, (value,) in found.items()} | {"images": images}

    def text(self, row: Mapping[str, Any], field: str, position: int) -> str | None:
        """A field as it stands in the file; None where nothing does.

        Raises:
            PromptError: It is no text or number; names the row.
        """
        try:
            return as_text(row.get(field))
        except ValueError as error:
            hint = f"; name another column with task.columns.{field}" if field in REQUIRED else ""
            raise self.problem(position, field, f"{field} is {error}; allowed is text or a number{hint}") from None

    def source(self, row: Mapping[str, Any], position: int) -> str:
        """A row's source: what its column says, or else the table's."""
        return self.text(row, "source", position) or self.table.source

    def problem(self, position: int, field: str, what: object) -> PromptError:
        """An error in one row, to be raised."""
        columns = ", ".join(map(repr, self._columns[field]))
        return PromptError(f"{self.table.name}: row {position}: column {columns}: {what}")


def check_fields(names: Mapping[str, str]) -> None:
    """Raises ValueError if a column map speaks of a field that prompts do not have."""
    if unknown := set(names) - set(FIELDS):
        raise ValueError(f"task.columns: no field {min(unknown)!r}; allowed: {', '.join(FIELDS)}")


def _find(rows: Rows, name: str, several: bool) -> tuple[str, ...]:
    """The columns that a name stands for; none if one of them is missing."""
    if rows.has(name):
        return (name,)
    if "|" in name:
        found = (_find(rows, each.strip(), several) for each in name.split("|"))
        return next(filter(None, found), ())
    if not several:
        return ()
    return _matching(rows, name)


def _matching(rows: Rows, name: str) -> tuple[str, ...]:
    """The columns of a list of names and patterns; none if one of them stands for none."""
    found: list[str] = []
    for part in filter(None, (part.strip() for part in name.split(","))):
        matching = [part] if rows.has(part) else [each for each in rows.names if fnmatchcase(each, part)]
        if not matching:
            return ()
        found += sorted(matching, key=_by_number)
    return tuple(found)


def _listed(images: Any) -> list[Any]:
    """What one column holds, as a list: one image, several, or a list written as a text, as CSV has it."""
    if isinstance(images, str) and images.startswith("["):
        images = read_list(images)
    # NaN stands for nothing where a table was made of a data frame.
    return [None if image != image else image for image in (images if isinstance(images, list) else [images])]


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
