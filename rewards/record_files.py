"""Rollouts, their counts and their prompts as Parquet: two tables, so that an image is stored once however many
rollouts answer it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rewards.records import Annotated, Prompt, Rollout, StepCounts, StepSpan

ROLLOUTS, PROMPTS = "rollouts.parquet", "prompts.parquet"

PROMPT_SCHEMA = pa.schema(
    {"id": pa.string(), "source": pa.string(), "question": pa.string(), "answer": pa.string()}
    | {"images": pa.list_(pa.binary())}
)
ROLLOUT_SCHEMA = pa.schema(
    {"prompt_id": pa.string(), "source": pa.string(), "group": pa.int64(), "token_ids": pa.list_(pa.int64())}
    | {"logprobs": pa.list_(pa.float64()), "text": pa.string(), "step_starts": pa.list_(pa.int64())}
    | {"step_ends": pa.list_(pa.int64()), "outcome": pa.float64(), "finish_reason": pa.string()}
    | {"policy_version": pa.int64(), "correct": pa.list_(pa.int64()), "sampled": pa.list_(pa.int64())}
    | {"counts_version": pa.int64()}
)


def write_rollouts(
    folder: Path, rollouts: Sequence[Rollout], prompts: Sequence[Prompt], counts: Sequence[StepCounts] | None = None
) -> None:
    """Write rollouts and the prompts that they answer; ``counts``, where they exist, in the same rows."""
    folder.mkdir(parents=True, exist_ok=True)
    unique = {prompt.id: prompt for prompt in prompts}
    prompt_rows = [
        {
            "id": p.id,
            "source": p.source,
            "question": p.question,
            "answer": p.answer,
            "images": [_png(i) for i in p.images],
        }
        for p in unique.values()
    ]
    rows = [
        {
            "prompt_id": rollout.prompt_id,
            "source": rollout.source,
            "group": rollout.group,
            "token_ids": list(rollout.token_ids),
            "logprobs": list(rollout.logprobs),
            "text": rollout.text,
            "step_starts": [span.start for span in rollout.steps],
            "step_ends": [span.end for span in rollout.steps],
            "outcome": rollout.outcome,
            "finish_reason": rollout.finish_reason,
            "policy_version": rollout.policy_version,
            "correct": None if counts is None else counts[index].correct.tolist(),
            "sampled": None if counts is None else counts[index].sampled.tolist(),
            "counts_version": None if counts is None else counts[index].policy_version,
        }
        for index, rollout in enumerate(rollouts)
    ]
    pq.write_table(pa.Table.from_pylist(prompt_rows, PROMPT_SCHEMA), folder / PROMPTS)
    pq.write_table(pa.Table.from_pylist(rows, ROLLOUT_SCHEMA), folder / ROLLOUTS)


def read_rollouts(folder: Path) -> tuple[list[Rollout], list[Prompt], list[StepCounts | None]]:
    """What `write_rollouts` wrote: rollouts, the prompt of each, and the counts of each or None."""
    prompts = {
        row["id"]: Prompt(row["id"], row["source"], row["question"], tuple(map(_image, row["images"])), row["answer"])
        for row in pq.read_table(folder / PROMPTS, schema=PROMPT_SCHEMA).to_pylist()
    }
    rollouts: list[Rollout] = []
    counts: list[StepCounts | None] = []
    for row in pq.read_table(folder / ROLLOUTS, schema=ROLLOUT_SCHEMA).to_pylist():
        correct, sampled, counts_version = row.pop("correct"), row.pop("sampled"), row.pop("counts_version")
        spans = tuple(StepSpan(*pair) for pair in zip(row.pop("step_starts"), row.pop("step_ends"), strict=True))
        tokens, logprobs = tuple(row.pop("token_ids")), tuple(row.pop("logprobs"))
        rollouts.append(Rollout(**row, token_ids=tokens, logprobs=logprobs, steps=spans))
        counts.append(
            None
            if correct is None
            else StepCounts(np.array(correct, np.int64), np.array(sampled, np.int64), counts_version)
        )
    return rollouts, [prompts[rollout.prompt_id] for rollout in rollouts], counts


def write_annotated(folder: Path, entries: Sequence[Annotated]) -> None:
    """Write annotated rollouts; see `write_rollouts`."""
    write_rollouts(
        folder, [e.rollout for e in entries], [e.prompt for e in entries], [entry.counts for entry in entries]
    )


def read_annotated(folder: Path) -> list[Annotated]:
    """What `write_annotated` wrote."""
    return [
        Annotated(prompt, rollout, counts)
        for rollout, prompt, counts in zip(*read_rollouts(folder), strict=True)
        if counts is not None
    ]


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def _image(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")
