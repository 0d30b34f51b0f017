"""Preference pairs as one Parquet table: a row a pair; a prompt's images are in the first of its rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from rewards.files.images import read_image
from rewards.files.record_files import (
    check_present,
    png_of_image,
    read_table,
    write_table,
)
from rewards.outcome.preferences import Preference
from rewards.records import Prompt

KIND = "preference pairs"
SCHEMA = pa.schema(
    {"prompt_id": pa.string(), "prompt_source": pa.string(), "question": pa.string(), "answer": pa.string()}
    | {"images": pa.list_(pa.binary()), "chosen": pa.list_(pa.int64()), "rejected": pa.list_(pa.int64())}
)


def save_preferences(pairs: Sequence[Preference], path: Path) -> None:
    """Write pairs with their prompts and images, in order; see `rewards.files.record_files.write_table`."""
    stored: set[str] = set()
    rows = []
    for pair in pairs:
        prompt = pair.prompt
        images = None if prompt.id in stored else [png_of_image(image) for image in prompt.images]
        stored.add(prompt.id)
        texts = {"prompt_id": prompt.id, "prompt_source": prompt.source}
        texts |= {"question": prompt.question, "answer": prompt.answer}
        rows.append(texts | {"images": images, "chosen": list(pair.chosen), "rejected": list(pair.rejected)})
    write_table(pa.Table.from_pylist(rows, SCHEMA), path)


def load_preferences(path: Path) -> list[Preference]:
    """What `save_preferences` wrote; pairs of one prompt share its record.

    Raises:
        ValueError: The file is missing, damaged or something else; names it and the reason.
    """
    table = read_table(path, SCHEMA, KIND).select(SCHEMA.names)
    prompts: dict[str, Prompt] = {}
    pairs = []
    try:
        check_present(table)
        for row in table.to_pylist():
            name = row["prompt_id"]
            if row["images"] is not None:
                images = tuple(map(read_image, row["images"]))
                prompts[name] = Prompt(name, row["prompt_source"], row["question"], images, row["answer"])
            pairs.append(Preference(prompts[name], tuple(row["chosen"]), tuple(row["rejected"])))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: holds no {KIND}: {type(error).__name__} {error}") from None
    return pairs
