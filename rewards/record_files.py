"""Annotated rollouts as one Parquet table: a row a rollout; a prompt's images are in the first of its rows alone."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

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


def annotated_table(entries: Sequence[Annotated]) -> pa.Table:
    """Annotated rollouts with their prompts and images (as PNG), a row each, in order."""
    stored: set[str] = set()
    rows = []
    for entry in entries:
        rows.append(_row(entry, with_images=entry.prompt.id not in stored))
        stored.add(entry.prompt.id)
    return pa.Table.from_pylist(rows, SCHEMA)


def annotated_rollouts(table: pa.Table) -> list[Annotated]:
    """What `annotated_table` was made of; rows of one prompt share its record."""
    prompts: dict[str, Prompt] = {}
    return [_annotated(row, prompts) for row in table.select(SCHEMA.names).to_pylist()]


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file with checksums, under a temporary name that is renamed once all of it is on the disk.

    Whatever happens meanwhile, ``path`` holds either what it held before or the whole new table.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        pq.write_table(table, file, write_page_checksum=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


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
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; it should hold {kind}") from None
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: holds no {kind}: truncated, damaged or not Parquet: {reason}") from None
    for field in schema:
        if there.get(field.name) != field.type:
            raise ValueError(f"{path}: holds no {kind}: it has no column {field.name!r} of type {field.type}")
    return table


def _row(entry: Annotated, with_images: bool) -> dict[str, Any]:
    prompt, rollout, counts = entry.prompt, entry.rollout, entry.counts
    return {
        "prompt_id": prompt.id,
        "prompt_source": prompt.source,
        "question": prompt.question,
        "answer": prompt.answer,
        "images": [png_of_image(image) for image in prompt.images] if with_images else None,
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


def _annotated(row: dict[str, Any], prompts: dict[str, Prompt]) -> Annotated:
    name = row["prompt_id"]
    if row["images"] is not None:
        images = tuple(map(image_from_png, row["images"]))
        prompts[name] = Prompt(name, row["prompt_source"], row["question"], images, row["answer"])
    rollout = Rollout(
        prompt_id=name,
        source=row["source"],
        group=row["group"],
        token_ids=tuple(row["token_ids"]),
        logprobs=tuple(row["logprobs"]),
        text=row["text"],
        steps=tuple(
            StepSpan(*step) for step in zip(row["step_starts"], row["step_ends"], row["step_kinds"], strict=True)
        ),
        outcome=row["outcome"],
        finish_reason=row["finish_reason"],
        policy_version=row["policy_version"],
    )
    correct, sampled = np.array(row["correct"], dtype=float), np.array(row["sampled"], dtype=float)
    return Annotated(prompts[name], rollout, StepCounts(correct, sampled, row["counts_version"]))


def png_of_image(image: Image.Image) -> bytes:
    """An image as the bytes of a PNG file."""
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def image_from_png(data: bytes) -> Image.Image:
    """What `png_of_image` was given, in RGB."""
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")
