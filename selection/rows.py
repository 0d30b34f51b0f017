"""The table behind the streaming buffer: one row a rollout, one numpy column a property."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Meta

from rewards.files.json_text import read_json
from rewards.files.record_files import (
    SCHEMA,
    annotated_rollouts,
    annotated_table,
    read_table,
    write_table,
)
from rewards.records import Annotated

KIND = "saved buffer"
METADATA_KEY = b"sieve.buffer"
Whole = typing.Annotated[int, Meta(ge=0, lt=2**62)]
"""As NumPy can count on with."""
COLUMNS = pa.schema(
    {"row_source": pa.int64(), "score": pa.float64(), "version": pa.int64(), "negative": pa.bool_()}
    | {"arrival": pa.int64(), "drawn": pa.int64()}
)


@dataclass(frozen=True)
class Rows:
    """The buffer's table: n rollouts, one column each (n,), sorted by source, then best first.

    Attributes:
        entry: The rollouts, `Annotated` objects.
        source: Number of the source.
        score: The selector's score at the time of the offer.
        version: The policy version that wrote the rollout.
        negative: No step is positive.
        arrival: Place in the stream, from 0.
        drawn: How often it was drawn.
        kept: It is one of those that may be drawn, and not in reserve.
    """

    entry: np.ndarray
    source: np.ndarray
    score: np.ndarray
    version: np.ndarray
    negative: np.ndarray
    arrival: np.ndarray
    drawn: np.ndarray
    kept: np.ndarray

    def __len__(self) -> int:
        return len(self.entry)

    def take(self, rows: np.ndarray | slice) -> Rows:
        """Some rows, by place or by mask."""
        return Rows(*(column[rows] for column in vars(self).values()))

    def join(self, other: Rows) -> Rows:
        """These rows, then the other ones."""
        return Rows(*map(np.concatenate, zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class BufferState:
    """What a buffer's future depends on, settings apart.

    Attributes:
        rows: The rollouts held.
        mass: Rollouts seen of each source, discounted by age.
        now: The newest policy version seen.
        counters: Totals, by name.
        generator: The random generator's state.
    """

    rows: Rows
    mass: dict[str, float]
    now: int
    counters: dict[str, int]
    generator: Mapping[str, Any]


@dataclass(frozen=True)
class _Rest:
    """A buffer's state but for its rows, as it stands beside them."""

    mass: dict[str, typing.Annotated[float, Meta(ge=0, le=1e15)]]
    now: Whole
    counters: dict[str, Whole]
    generator: dict[str, Any]


def no_rows(length: int = 0) -> Rows:
    """``length`` blank rows."""
    integers = [np.zeros(length, dtype=np.int64) for _ in range(4)]
    source, version, arrival, drawn = integers
    negative, kept = np.zeros((2, length), dtype=bool)
    return Rows(np.empty(length, dtype=object), source, np.zeros(length), version, negative, arrival, drawn, kept)


def identity(entry: Annotated) -> tuple[str, tuple[int, ...]]:
    """What makes a rollout the same as another: its prompt and its tokens."""
    return entry.rollout.prompt_id, entry.rollout.token_ids


def place_in_source(rows: Rows, counted: np.ndarray) -> np.ndarray:
    """Of each row (n,): how many counted rows of its source there are up to and with it; rows are sorted by source."""
    running = np.cumsum(counted)
    sizes = np.bincount(rows.source)
    before = np.concatenate([[0], running])[np.cumsum(sizes) - sizes]
    return running - before[rows.source]


def save_buffer(state: BufferState, path: Path) -> None:
    """Write a buffer's state. Once this returns, a crash loses nothing of it; before, the old file is still there."""
    rows = state.rows
    table = annotated_table(list(rows.entry))
    values = (rows.source, rows.score, rows.version, rows.negative, rows.arrival, rows.drawn)
    for field, column in zip(COLUMNS, values, strict=True):
        table = table.append_column(field, pa.array(column, field.type))
    rest = {"mass": state.mass, "now": state.now, "counters": state.counters, "generator": state.generator}
    write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(rest).encode()}), path)


def load_buffer(path: Path) -> BufferState:
    """What `save_buffer` wrote.

    Raises:
        ValueError: The file is missing, truncated, damaged or no saved buffer; names it and the reason.
    """
    table = read_table(path, pa.unify_schemas([SCHEMA, COLUMNS]), KIND)
    entry = np.empty(table.num_rows, dtype=object)
    try:
        rest = msgspec.convert(read_json((table.schema.metadata or {})[METADATA_KEY]), _Rest)
        entry[:] = annotated_rollouts(table)
        # Copies: what Arrow hands out cannot be written to.
        columns = {name: np.array(table.column(name).to_numpy()) for name in COLUMNS.names}
        rows = replace(no_rows(len(entry)), entry=entry, source=columns.pop("row_source"), **columns)
        _check_possible(rows, len(rest.mass))
        return BufferState(rows, **vars(rest))
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"{path}: holds no {KIND}: {type(error).__name__} {error}") from None


def _check_possible(rows: Rows, sources: int) -> None:
    if not np.all((rows.source >= 0) & (rows.source < sources)):
        raise ValueError(f"row_source: allowed are numbers from 0 on, below that of sources, {sources}")
    if not np.all((rows.score >= 0) & np.isfinite(rows.score)):
        raise ValueError("score: allowed are finite numbers from 0 on")
    if len(np.unique(rows.arrival)) < len(rows) or np.any((rows.arrival < 0) | (rows.drawn < 0)):
        raise ValueError("arrival, drawn: allowed are numbers from 0 on, and no arrival twice")
    if np.any(rows.version < -1):
        raise ValueError("version: allowed are numbers from 0 on, and -1 of rollouts that no policy of the run wrote")
