"""What is opened of a dataset that somebody else has put together: tables, of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.config import REPOCARD_FILENAME, REPOYAML_FILENAME
from huggingface_hub import DatasetCard

from rewards.files.json_text import read_json
from rewards.files.plain_text import named_kind
from rewards.files.whole_file import content_of

if TYPE_CHECKING:
    from datasets import DatasetBuilder

READERS = ("json", "csv", "parquet", "arrow")
"""What `datasets` calls its readers of tables. Others unpack archives, and one reads what they hold with
`torch.load`."""
KINDS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")
ALLOWED = f"{', '.join(KINDS)} files, perhaps compressed"


def check_regular(folder: Path) -> None:
    """Whether there are files and folders alone in a dataset on the disk: who opens a pipe waits for its other end.

    Raises:
        ValueError: There is; names it.
    """
    for path in folder.rglob("*"):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ValueError(f"{path} is in it, and is neither a file nor a folder; allowed are these")


def check_saved(folder: Path) -> None:
    """Whether what `save_to_disk` left names files of its own; before `datasets` opens them.

    Raises:
        ValueError: It does not.
        OSError: It cannot be read.
    """
    splits = folder / "dataset_dict.json"
    for name in read_json(content_of(splits))["splits"] if splits.is_file() else ["."]:
        state = folder / name / "state.json"
        for file in read_json(content_of(state))["_data_files"]:
            check_inside(str(state.parent / file["filename"]), folder)


def check_card(folder: Path) -> None:
    """Whether the card of a dataset on the disk names no files elsewhere, which `datasets` would ask for at once.

    Raises:
        ValueError: It does; names one.
        OSError: It cannot be read.
    """
    for name in (REPOCARD_FILENAME, REPOYAML_FILENAME):
        if (folder / name).is_file():
            text = content_of(folder / name).decode()
            card = DatasetCard(
                text if name == REPOCARD_FILENAME else f"---\n{text}\n---\n", ignore_metadata_errors=True
            )
            for named in _texts(card.data.to_dict().get("configs"), set()):
                if "://" in named or "::" in named:
                    raise ValueError(f"its {name} names {named:.200}; allowed are files of its own")


def check_files(builder: DatasetBuilder, place: Path | str) -> None:
    """Whether all files of a dataset may be opened, and are where it is itself.

    Args:
        builder: What would read them.
        place: The dataset's folder, or how the names of its files on the hub begin.

    Raises:
        ValueError: One may not; names it.
    """
    for each in (builder.config.data_files or {}).values():
        for file in map(str, each):
            if named_kind(Path(file)) not in KINDS:
                raise ValueError(f"{file} is among its files; allowed are {ALLOWED}")
            check_inside(file, place)
    if reader_of(builder) not in READERS:
        raise ValueError(f"it would be read as {reader_of(builder)}; allowed are {ALLOWED}")


def check_inside(file: str, place: Path | str) -> None:
    """Whether a file is of a dataset; see `check_files`.

    Raises:
        ValueError: It lies elsewhere.
    """
    if isinstance(place, str):
        inside = file.startswith(place)
    else:
        there, own = Path(file).resolve(), place.resolve()
        inside = there.is_relative_to(own)
        if own.parent.name == "snapshots":  # of the hub's cache, where files are links to what they hold
            inside |= there.parent == own.parent.parent / "blobs"
    if not inside:
        raise ValueError(f"{file} lies outside of it; allowed are files of its own")


def reader_of(builder: DatasetBuilder) -> str:
    """What `datasets` calls what would read it."""
    return type(builder).__module__.rpartition(".")[2]


def _texts(value: Any, seen: set[int]) -> Iterator[str]:
    """All texts in a value of YAML, whose parts may be each other's."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list) and id(value) not in seen:
        seen.add(id(value))
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part, seen)
