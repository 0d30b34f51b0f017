"""Rows of a table of the `datasets` library. Nothing is decoded, and no row is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Image, Json, LargeList, List

from rewards.records import PromptError

BATCH = 1000
"""Rows that are read at once."""


class ArrowRows:
    """See `rl.tasks.rows.Rows`; images are the bytes or paths that they are stored as, and classes are their names.

    Args:
        name: For messages.
        rows: The table.
    """

    def __init__(self, name: str, rows: Dataset) -> None:
        self._name, self._rows = name, rows
        self._stored = Features({name: _stored(kind) for name, kind in rows.features.items()})
        self.names = rows.column_names
        self._views: dict[tuple[str, ...], Dataset] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def has(self, name: str) -> bool:
        if name in self.names:
            return True
        head, *keys = name.split(".")
        kind = self._rows.features.get(head)
        for key in keys:
            kind = kind.get(key) if isinstance(kind, dict) else kind if isinstance(kind, Json) else None
        return kind is not None

    def pictures(self) -> list[str]:
        """The columns that are of images."""
        return [name for name, kind in self._rows.features.items() if _holds_images(kind)]

    def read(self, columns: Sequence[str], positions: range) -> Iterator[dict[str, Any]]:
        heads = dict.fromkeys(name if name in self.names else name.split(".")[0] for name in columns)
        key = tuple(heads)
        if key not in self._views:
            self._views[key] = self._rows.select_columns(list(heads)).with_format("arrow")
        for start in range(positions.start, positions.stop, BATCH):
            rows = self._views[key][start : min(start + BATCH, positions.stop)]
            for values in self._plain(_with_short_numbers(rows), start):
                yield self._stored.decode_example(values)

    def _plain(self, rows: pa.Table, first: int) -> list[dict[str, Any]]:
        """What rows from the position ``first`` on hold."""
        try:
            return rows.to_pylist()
        except UnicodeDecodeError as error:
            if rows.num_rows == 1:
                what = f"a text that is not UTF-8: {error.reason}"
                raise PromptError(f"{self._name}: row {first}: {what}; allowed is UTF-8") from None
            return [
                values
                for place in range(rows.num_rows)
                for values in self._plain(rows[place : place + 1], first + place)
            ]


def _with_short_numbers(rows: pa.Table) -> pa.Table:
    """With numbers of 32 bits as the shortest decimals that stand for them: 0.1, and not 0.10000000149."""
    shape = rows.schema
    for wanted in (pa.string(), pa.float64()):
        target = pa.schema([field.with_type(_replaced(field.type, wanted)) for field in shape])
        if target == shape:
            return rows
        rows = rows.cast(target)
    return rows


def _replaced(kind: pa.DataType, wanted: pa.DataType) -> pa.DataType:
    """A kind of column with ``wanted`` in place of numbers of 32 bits."""
    if pa.types.is_float32(kind):
        return wanted
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        item = _replaced(kind.value_type, wanted)
        return kind if item == kind.value_type else pa.list_(kind.value_field.with_type(item))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_replaced(field.type, wanted)) for field in kind])
    return kind


class _Named(ClassLabel):
    """A class by its name, where the library itself gives its number; None for -1, which stands for none."""

    def decode_example(self, value: int, **_: Any) -> str | None:
        return self.names[value] if 0 <= value < len(self.names) else None


def _stored(kind: Any) -> Any:
    """A kind of column with its images left as the bytes or paths that they are, and its classes named."""
    if isinstance(kind, Image):
        return Image(decode=False)
    if isinstance(kind, ClassLabel) and kind.names:
        return _Named(names=kind.names)
    if isinstance(kind, List | LargeList):
        return type(kind)(_stored(kind.feature))
    return {name: _stored(each) for name, each in kind.items()} if isinstance(kind, dict) else kind


def _holds_images(kind: Any) -> bool:
    return isinstance(kind, Image) or (isinstance(kind, List | LargeList) and _holds_images(kind.feature))
