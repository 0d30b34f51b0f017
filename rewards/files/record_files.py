"""Annotated rollouts as one Parquet table: a row a rollout; a prompt's images are in the first of its rows alone."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from rewards.files.images import read_image
from rewards.files.whole_file import replacing
from rewards.records import Annotated, Prompt, Rollout, StepCounts, StepSpan

SCHEMA = pa.schema(
    {"prompt_id": pa.string(), "prompt_source": pa.string(), "question": pa.string(), "answer": pa.string()}
    | {"images": pa.list_(pa.binary()), "source": pa.string(), "group": pa.int64(), "token_ids": pa.list_(pa.int64())}
    | {"logprobs": pa.list_(pa.float64()), "text": pa.string(), "step_starts": pa.list_(pa.int64())}
    | {
        "step_ends": pa.list_(pa.int64()),
        "step_kinds": pa.list_(pa.string()),
        "outcome": pa.float64(),
        "finish_reason": pa.string(),
    }
    | {"policy_version": pa.int64(), "correct": pa.list_(pa.float64()), "sampled": pa.list_(pa.float64())}
    | {"counts_version": pa.int64()}
)

STEPS = ("step_starts", "step_ends", "step_kinds")
WITHOUT = ("images", "informative")
"""Columns that a row may be without: a prompt's images stand in the first of its rows alone, and not every rollout has
a selector's score."""


def annotated_table(entries: Sequence[Annotated]) -> pa.Table:
    """Annotated rollouts with their prompts and images (as PNG), a row each, in order."""
    stored: set[str] = set()
    rows = []
    for entry in entries:
        with_images = entry.prompt.id not in stored
        images = [png_of_image(image) for image in entry.prompt.images] if with_images else None
        rows.append(record_row(entry) | {"images": images})
        stored.add(entry.prompt.id)
    return pa.Table.from_pylist(rows, SCHEMA)


def annotated_rollouts(table: pa.Table) -> list[Annotated]:
    """What `annotated_table` was made of; rows of one prompt share its record.

    Raises:
        ValueError: A row holds something else; names it.
    """
    table = table.select(SCHEMA.names)
    check_present(table)
    prompts: dict[str, Prompt] = {}
    entries = []
    for number, row in enumerate(table.to_pylist()):
        try:
            if row["images"] is not None:
                images = tuple(map(read_image, row["images"]))
                name = row["prompt_id"]
                prompts[name] = Prompt(name, row["prompt_source"], row["question"], images, row["answer"])
            entries.append(record_of_row(row, prompts[row["prompt_id"]]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"row {number}: {type(error).__name__} {error}") from None
    return entries


def check_present(table: pa.Table) -> None:
    """Whether every row has everything but what it may be without: `WITHOUT`.

    Raises:
        ValueError: Something is missing; names the column.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        gaps = column.is_null().to_pylist() if column.null_count and name not in WITHOUT else []
        if pa.types.is_list(column.type) and pc.list_flatten(column).null_count:
            gaps = [value is not None and None in value for value in column.to_pylist()]
        if True in gaps:
            raise ValueError(f"row {gaps.index(True)}: {name} is missing, or a value in it")


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file with checksums, under a temporary name that is renamed once all of it is on the disk.

    Whatever happens meanwhile, ``path`` holds either what it held before or the whole new table.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        pq.write_table(table, file, write_page_checksum=True)
        file.flush()
        os.fsync(file.fileno())


def read_table(path: Path, schema: pa.Schema, kind: str) -> pa.Table:
    """Read what `write_table` wrote.

    Args:
        path: The file.
        schema: The columns it must have, with these types.
        kind: What the file is said to be, for messages.

    Raises:
        ValueError: It is missing, truncated, damaged, or something else; names the file and the reason.
    """
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
        there = {field.name: field.type for field in table.schema}
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path}: no such file; it should hold {kind}") from None
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: holds no {kind}: truncated, damaged or not Parquet: {reason}") from None
    for field in schema:
        if there.get(field.name) != field.type:
            raise ValueError(f"{path}: holds no {kind}: it has no column {field.name!r} of type {field.type}")
    return table


def record_row(entry: Annotated) -> dict[str, Any]:
    """The columns of `SCHEMA`, all but the images."""
    prompt, rollout, counts = entry.prompt, entry.rollout, entry.counts
    return {
        "prompt_id": prompt.id,
        "prompt_source": prompt.source,
        "question": prompt.question,
        "answer": prompt.answer,
        "source": rollout.source,
        "group": rollout.group,
        "token_ids": list(rollout.token_ids),
        "logprobs": list(rollout.logprobs),
        "text": rollout.text,
        "step_starts": [span.start for span in rollout.steps],
        "step_ends": [span.end for span in rollout.steps],
        "step_kinds": [span.kind for span in rollout.steps],
        "outcome": rollout.outcome,
        "finish_reason": rollout.finish_reason,
        "policy_version": rollout.policy_version,
        "correct": counts.correct.tolist(),
        "sampled": counts.sampled.tolist(),
        "counts_version": counts.policy_version,
    }


def record_of_row(row: Mapping[str, Any], prompt: Prompt) -> Annotated:
    """What `record_row` was made of, given the prompt with its images.

    Raises:
        ValueError: It says what cannot be; names the columns.
    """
    if len({len(row[name]) for name in STEPS}) > 1:
        raise ValueError(f"{', '.join(STEPS)}: allowed are as many of each")
    rollout = Rollout(
        prompt_id=row["prompt_id"],
        source=row["source"],
        group=row["group"],
        token_ids=tuple(row["token_ids"]),
        logprobs=tuple(row["logprobs"]),
        text=row["text"],
        steps=tuple(StepSpan(*step) for step in zip(*(row[name] for name in STEPS), strict=True)),
        outcome=row["outcome"],
        finish_reason=row["finish_reason"],
        policy_version=row["policy_version"],
    )
    correct, sampled = np.array(row["correct"], dtype=float), np.array(row["sampled"], dtype=float)
    _check_possible(rollout, correct, sampled)
    return Annotated(prompt, rollout, StepCounts(correct, sampled, row["counts_version"]))


def _check_possible(rollout: Rollout, correct: np.ndarray, sampled: np.ndarray) -> None:
    length = len(rollout.token_ids)
    edges = [0, *(edge for span in rollout.steps for edge in (span.start, span.end)), length]
    if edges != sorted(edges):
        raise ValueError(f"step_starts and step_ends are no steps, one after the other, of {length} token_ids")
    if min(rollout.token_ids, default=0) < 0 or len(rollout.logprobs) != length:
        raise ValueError(f"token_ids and logprobs: allowed are tokens from 0 on, and as many logprobs: {length}")
    if len(correct) != len(sampled) or not np.all((correct >= 0) & (correct <= sampled) & np.isfinite(sampled)):
        raise ValueError("correct and sampled: allowed are as many of both, with 0 <= correct <= sampled")


def png_of_image(image: Image.Image) -> bytes:
    """An image as the bytes of a PNG file, which `rewards.files.images.read_image` reads."""
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()
