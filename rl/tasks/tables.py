"""Tables of prompts: JSON lines and Parquet files, folders of the `datasets` library, and the Hugging Face hub."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset, load_from_disk
from datasets.arrow_reader import ReadInstruction
from datasets.config import HF_CACHE_HOME
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from pyarrow.parquet import read_metadata

# Not `load_dataset`, which wants a folder or a pattern, while a file's name may look like one.
LOADERS: dict[str, Callable[[str], Dataset]] = {
    ".jsonl": Dataset.from_json,
    ".json": Dataset.from_json,
    ".parquet": Dataset.from_parquet,
}
HUB = "hub:"
ALLOWED = f"{', '.join(LOADERS)} files, FOLDER[:CONFIG]:SPLIT, {HUB}OWNER/NAME[@REVISION][:CONFIG]:SPLIT"

_COLON = re.compile(r":(?![^\[]*\])")  # not the one of `test[:100]`
_HUB_NAME = re.compile(r"[^/@\s]+/[^/@\s]+(@\S+)?")
LEVELS = {
    "huggingface_hub": logging.CRITICAL,
    "datasets": logging.CRITICAL,
    # It says that the hub was not reached, and an older copy is used: nothing else would.
    "datasets.packaged_modules.cache": logging.WARNING,
}
"""From which level on a logger is heard; below it, these libraries tell of each retry and of what they raise anyway."""


@dataclass(frozen=True)
class Part:
    """Rows ``start <= i < end`` of one split, or of one file."""

    origin: str
    start: int
    end: int

    def overlaps(self, other: Part) -> bool:
        return self.origin == other.origin and self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class Table:
    """Rows that stay on the disk until they are asked for.

    Attributes:
        name: As the configuration has it; begins the ids of its prompts, and what is said of it.
        source: What its rows are of, where no column says so.
        folder: What image paths are relative to, and must not lead out of; of the hub, its cache.
        rows: The rows.
        parts: Where they come from.
    """

    name: str
    source: str
    folder: Path
    rows: Dataset
    parts: tuple[Part, ...]


def open_table(entry: str) -> Table:
    """The table that an entry of ``task.train_files`` names.

    It is one of:
        FILE.jsonl, FILE.parquet
        FOLDER[:CONFIG]:SPLIT                       a dataset repository on the disk; without config, what
                                                    `save_to_disk` left
        hub:OWNER/NAME[@REVISION][:CONFIG]:SPLIT    a dataset of the hub, for example ``hub:MMMU/MMMU:Art:validation``

    A split may be sliced and added to others as in `datasets.load_dataset`: ``test[:100]``, ``train[80%:]+validation``.
    It may be left out where there is only one. No code that comes with a dataset runs.

    Raises:
        ValueError: It cannot be read, or holds no rows; one line that begins with the entry, and all that is said.
    """
    with quiet_loading():
        return _open(entry)


def _open(entry: str) -> Table:
    if entry.startswith(HUB):
        return _open_dataset(entry, entry.removeprefix(HUB), None)
    path = Path(entry)
    if path.suffix in LOADERS:
        return _open_file(path)
    folder = Path(_COLON.split(entry)[0])
    if folder.is_dir():
        return _open_dataset(entry, entry, folder)
    if path.exists():
        raise ValueError(f"{entry}: unknown kind of file; allowed: {ALLOWED}")
    raise ValueError(f"{entry}: no such file or folder; allowed: {ALLOWED}")


def _open_file(path: Path) -> Table:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        empty = path.stat().st_size == 0 or (path.suffix == ".parquet" and read_metadata(path).num_rows == 0)
        rows = None if empty else LOADERS[path.suffix](escape(str(path)))
    except Exception as error:  # datasets raises many kinds; each means that the file is not what its name says
        reason = _broken_line(path) or _reason(error)
        raise ValueError(f"{path}: not readable as {path.suffix[1:]}: {reason}") from None
    if rows is None or len(rows) == 0:
        raise ValueError(f"{path}: holds no rows")
    return Table(str(path), path.stem, path.parent, rows, (Part(str(path.resolve()), 0, len(rows)),))


def _broken_line(path: Path) -> str:
    """The first line of JSON lines that is no object; empty if there is none, or the file is no such file."""
    if path.suffix != ".jsonl":
        return ""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if line.strip() and not isinstance(json.loads(line), dict):
                    return f"line {number}: not an object; allowed is one a line"
            except (ValueError, RecursionError) as error:
                return f"line {number}: not JSON: {' '.join(str(error).split())}"
    return ""


def _open_dataset(entry: str, spelled: str, folder: Path | None) -> Table:
    """A dataset in a folder, or, where that is None, of the hub."""
    name, *selected = _COLON.split(spelled)
    saved = folder is not None and _is_saved(folder)
    misnamed = not _HUB_NAME.fullmatch(name) if folder is None else not name
    if misnamed or len(selected) > (1 if saved else 2) or not all(selected):
        raise ValueError(f"{entry}: not the name of a table; allowed: {ALLOWED}")
    config, split = [None, None, *selected][-2:] if selected else (None, None)
    repository, _, revision = name.partition("@") if folder is None else (str(folder.resolve()), "", "")
    try:
        if folder is not None and saved:
            rows, parts = _saved_rows(folder, split)
        else:
            loaded = load_dataset(repository, config, split=split, revision=revision or None)
            rows = _only(loaded) if isinstance(loaded, DatasetDict) else loaded
            lengths = {key: info.num_examples for key, info in rows.info.splits.items()}
            parts = _parts(split or str(rows.split), lengths)
    except Exception as error:  # no such dataset, config or split, no network, damaged files: many kinds
        raise ValueError(f"{entry}: cannot be loaded: {_reason(error)}") from None
    if len(rows) == 0:
        raise ValueError(f"{entry}: holds no rows")
    origin = f"{HUB if folder is None else ''}{repository}:{config or ''}"
    named = tuple(Part(f"{origin}:{part.origin}", part.start, part.end) for part in parts)
    return Table(entry, config or Path(repository).name, folder or Path(HF_CACHE_HOME), rows, named)


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _saved_rows(folder: Path, split: str | None) -> tuple[Dataset, list[Part]]:
    """What `save_to_disk` wrote: several splits, or one, which goes by the name that it had, else ``train``."""
    saved = load_from_disk(str(folder))
    splits = saved if isinstance(saved, DatasetDict) else {re.split(r"\W", str(saved.split or "train"))[0]: saved}
    if split is None:
        _only(splits)
        (split,) = splits
    parts = _parts(split, {name: len(rows) for name, rows in splits.items()})
    # A range of neighbours is a view of the table; it costs no list of row numbers.
    return concatenate_datasets([splits[part.origin].select(range(part.start, part.end)) for part in parts]), parts


def _only(splits: Mapping[str, Dataset]) -> Dataset:
    if len(splits) != 1:
        raise ValueError(f"no split is named; there are {', '.join(splits)}")
    return next(iter(splits.values()))


def _parts(split: str, lengths: Mapping[str, int]) -> list[Part]:
    absolute = ReadInstruction.from_spec(split).to_absolute(lengths)
    return [Part(each.splitname, each.from_, each.to) for each in absolute]


def _reason(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No progress bars, and no log lines but those of `LEVELS`, of `datasets` and `huggingface_hub` in the block."""
    before = {name: logging.getLogger(name).level for name in LEVELS}
    bars, hub_bars = not datasets.are_progress_bars_disabled(), not are_progress_bars_disabled()
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)
    if bars:
        datasets.disable_progress_bars()
    if hub_bars:
        disable_progress_bars()
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
        if bars:
            datasets.enable_progress_bars()
        if hub_bars:
            enable_progress_bars()
