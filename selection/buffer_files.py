"""A streaming buffer on disk: one Parquet file, a row a rollout; whatever else it must remember is in the metadata."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from rewards.record_files import SCHEMA, annotated_rollouts, annotated_table, read_table, write_table
from selection.rows import BufferState, no_rows

KIND = "saved buffer"
METADATA_KEY = b"sieve.buffer"
COLUMNS = pa.schema(
    {"row_source": pa.int64(), "score": pa.float64(), "version": pa.int64(), "negative": pa.bool_()}
    | {"arrival": pa.int64(), "drawn": pa.int64()}
)


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
        rest = json.loads((table.schema.metadata or {})[METADATA_KEY])
        entry[:] = annotated_rollouts(table)
        # Copies: what Arrow hands out cannot be written to.
        columns = {name: np.array(table.column(name).to_numpy()) for name in COLUMNS.names}
        rows = replace(no_rows(len(entry)), entry=entry, source=columns.pop("row_source"), **columns)
        return BufferState(rows, rest["mass"], rest["now"], rest["counters"], rest["generator"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"{path}: holds no {KIND}: {type(error).__name__} {error}") from None
