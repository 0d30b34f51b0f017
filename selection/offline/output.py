"""What `sieve select` writes: JSON lines in the published training format, or the same records as a Parquet table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from selection.offline.parts import Chosen
from selection.offline.training_records import NOT_UTF8, LeftOut, TrainingRecord

Write = Callable[[Any], object]


@dataclass(frozen=True)
class Format:
    """A kind of output file: how a record becomes a piece of it, pieces become a block, and blocks are written."""

    convert: Callable[[TrainingRecord, Chosen, int], Any]
    pack: Callable[[list[Any]], Any]
    open: Callable[[Path], AbstractContextManager[Write]]


def to_line(record: TrainingRecord, chosen: Chosen, index: int) -> bytes:
    """One JSON line, in UTF-8: ``{"image", "conversations": [{"from": "human", ...}, {"from": "gpt", ...}]}``."""
    # Put together by hand, for speed. A list of 1.0 and 0.0 looks in JSON as it does in Python.
    human = f'{{"from": "human", "value": {encode_basestring(record.human)}}}'
    turns = f'[{human}, {{"from": "gpt", "value": {record.labels}}}]'
    image = encode_basestring(record.image) if isinstance(record.image, str) else _encode(record.image)
    try:
        return f'{{"image": {image}, "conversations": {turns}}}\n'.encode()
    except UnicodeEncodeError as error:
        raise LeftOut(NOT_UTF8) from error


@contextmanager
def open_lines(file: Path) -> Iterator[Write]:
    """Writes JSON lines."""
    with file.open("wb") as stream:
        yield stream.write


def to_row(record: TrainingRecord, chosen: Chosen, index: int) -> tuple[Any, ...]:
    """One row of the table; see `open_table`."""
    to_line(record, chosen, index)  # what has no JSON line has no row
    image = record.image if isinstance(record.image, str) else _encode(record.image)
    place = (float(chosen.scores[index]), str(chosen.file), int(chosen.lines[index]))
    return (image, record.question, record.human, record.labels, *place)


@contextmanager
def open_table(file: Path) -> Iterator[Write]:
    """Writes a Parquet table with one row a record, in the order of the JSON lines.

    Columns: ``image`` (as given; JSON if it is no string), ``question`` (stripped), ``human`` (the whole text that the
    model is shown), ``labels`` (one a step), ``score`` (the selector's), ``source`` (annotation file), ``line`` (in it,
    from 1).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        {"image": pa.string(), "question": pa.string(), "human": pa.string(), "labels": pa.list_(pa.float64())}
        | {"score": pa.float64(), "source": pa.string(), "line": pa.int64()}
    )
    with pq.ParquetWriter(file, schema) as table:

        def write(rows: list[Any]) -> None:
            if rows:
                columns = [
                    pa.array(column, kind.type) for column, kind in zip(zip(*rows, strict=True), schema, strict=True)
                ]
                table.write_table(pa.Table.from_arrays(columns, schema=schema))

        yield write


FORMATS = {"jsonl": Format(to_line, b"".join, open_lines), "parquet": Format(to_row, list, open_table)}
_encode = json.JSONEncoder(ensure_ascii=False).encode
