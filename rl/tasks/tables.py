"""Tables of prompts: JSON, CSV and Parquet files, folders of the `datasets` library, and the Hugging Face hub."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from datasets import Dataset, DatasetDict, DownloadManager, concatenate_datasets, load_dataset_builder, load_from_disk
from datasets.arrow_reader import ReadInstruction
from datasets.config import HF_CACHE_HOME
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from pyarrow.parquet import read_metadata

from rewards.files.cache_folder import check_cache
from rewards.files.plain_text import UnreadableTextError, named_kind
from rewards.records import PromptError
from rl.tasks.arrow_rows import ArrowRows
from rl.tasks.dataset_files import check_card, check_files, check_regular, check_saved, reader_of
from rl.tasks.rows import CsvRows, JoinedRows, JsonRows, Rows

if TYPE_CHECKING:
    from datasets import DatasetBuilder


def _parquet_rows(name: str, file: Path) -> Rows:
    if read_metadata(file).num_rows == 0:  # the library would refuse it in its own words
        return JoinedRows([])
    # Not `load_dataset`, which wants a folder or a pattern, while a file's name may look like one.
    return ArrowRows(name, Dataset.from_parquet(escape(str(file))))


KINDS: dict[str, Callable[[str, Path], Rows]] = {
    ".jsonl": JsonRows,
    ".json": JsonRows,
    ".csv": CsvRows,
    ".tsv": CsvRows,
    ".parquet": _parquet_rows,
}

TEXT_BUILDERS = {"json": ".json", "csv": ".csv"}
"""What the library calls its readers of text, and the kind of file that each reads."""
HUB = "hub:"
ALLOWED = f"{', '.join(KINDS)} files, FOLDER[:CONFIG]:SPLIT, {HUB}OWNER/NAME[@REVISION][:CONFIG]:SPLIT"

PICTURES = re.compile(r"(?:.*_)?(?:image|img|picture|photo|figure)s?(?:_?\d+|_paths?|_files?)?", re.IGNORECASE)

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
    rows: Rows
    parts: tuple[Part, ...]

    @property
    def pictures(self) -> list[str]:
        """Columns that hold pictures by their type, or by the names that most people give them."""
        typed = self.rows.pictures() if isinstance(self.rows, ArrowRows) else []
        return typed or [name for name in self.rows.names if PICTURES.fullmatch(name)]


def open_table(entry: str, sample: int | None = None) -> Table:
    """The table that an entry of ``task.train_files`` names.

    It is one of:
        FILE.jsonl, FILE.json, FILE.csv, FILE.tsv   text, perhaps compressed: FILE.jsonl.gz; see `rl.tasks.rows`
        FILE.parquet
        FOLDER[:CONFIG]:SPLIT                       a dataset repository on the disk; without config, what
                                                    `save_to_disk` left
        hub:OWNER/NAME[@REVISION][:CONFIG]:SPLIT    a dataset of the hub, for example ``hub:MMMU/MMMU:Art:validation``

    A split may be sliced and added to others as in `datasets.load_dataset`: ``test[:100]``, ``train[80%:]+validation``.
    It may be left out where there is only one. No code that comes with a dataset runs.

    Args:
        entry: The entry.
        sample: Rows of a split of the hub that are enough; they are its first, without a download of the others. None
            for all that the entry names.

    Raises:
        ValueError: It cannot be read, or holds no rows; one line that begins with the entry, and all that is said.
    """
    with quiet_loading():
        return _open(entry, sample)


def _open(entry: str, sample: int | None) -> Table:
    if entry.startswith(HUB):
        return _open_dataset(entry, entry.removeprefix(HUB), None, sample)
    path = Path(entry)
    if named_kind(path) in KINDS:
        return _open_file(path)
    folder = Path(_COLON.split(entry)[0])
    if folder.is_dir():
        return _open_dataset(entry, entry, folder)
    if path.exists():
        raise ValueError(f"{entry}: unknown kind of file; allowed: {ALLOWED}")
    raise ValueError(f"{entry}: no such file or folder; allowed: {ALLOWED}")


def _open_file(path: Path) -> Table:
    if not path.is_file():
        raise ValueError(f"{path}: {'is no file' if path.exists() else 'no such file'}")
    kind = named_kind(path)
    if kind == ".parquet":
        check_cache(datasets.config.HF_DATASETS_CACHE)
    try:
        rows = KINDS[kind](str(path), path)
    except PromptError:  # it names the row
        raise
    except Exception as error:  # datasets raises many kinds; each means that the file is not what its name says
        raise ValueError(f"{path}: not readable as {kind[1:]}: {_reason(error)}") from None
    if len(rows) == 0:
        raise ValueError(f"{path}: holds no rows")
    source = path.name[: path.name.lower().rindex(kind)]
    return Table(str(path), source, path.parent, rows, (Part(str(path.resolve()), 0, len(rows)),))


def _open_dataset(entry: str, spelled: str, folder: Path | None, sample: int | None = None) -> Table:
    """A dataset in a folder, or, where that is None, of the hub."""
    check_cache(datasets.config.HF_DATASETS_CACHE)
    name, *selected = _COLON.split(spelled)
    saved = folder is not None and _is_saved(folder)
    misnamed = not _HUB_NAME.fullmatch(name) if folder is None else not name
    if misnamed or len(selected) > (1 if saved else 2) or not all(selected):
        raise ValueError(f"{entry}: not the name of a table; allowed: {ALLOWED}")
    config, split = [None, None, *selected][-2:] if selected else (None, None)
    repository, _, revision = name.partition("@") if folder is None else (str(folder.resolve()), "", "")
    try:
        if folder is not None:
            check_regular(folder)
        if folder is not None and saved:
            rows, parts = _saved_rows(entry, folder, split)
        else:
            if folder is not None:
                check_card(folder)
            builder = load_dataset_builder(repository, config, revision=revision or None)
            check_files(builder, f"hf://datasets/{repository}@" if folder is None else folder)
            rows, parts = _sampled_rows(entry, builder, split, sample) if sample else _built_rows(entry, builder, split)
    except PromptError:  # it names the row
        raise
    except Exception as error:  # no such dataset, config or split, no network, damaged files: many kinds
        raise ValueError(f"{entry}: cannot be loaded: {_reason(error)}") from None
    if len(rows) == 0:
        raise ValueError(f"{entry}: holds no rows")
    origin = f"{HUB if folder is None else ''}{repository}:{config or ''}"
    named = tuple(Part(f"{origin}:{part.origin}", part.start, part.end) for part in parts)
    source, place = config or Path(repository).name, folder or Path(HF_CACHE_HOME)
    return Table(entry, source, place, rows, named)


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _built_rows(entry: str, builder: DatasetBuilder, split: str | None) -> tuple[Rows, list[Part]]:
    """The rows of a split. Those of text files are read as they stand there, and not by what types the library finds
    in them, unless only the library can read them."""
    kind = TEXT_BUILDERS.get(reader_of(builder))
    if kind is not None:
        try:
            return _text_rows(entry, builder, KINDS[kind], split)
        except UnreadableTextError:  # the library would unpack it, whatever its name says
            raise
        except (ValueError, OSError):
            pass
    builder.download_and_prepare()
    loaded = builder.as_dataset(split=split)
    table = _only(loaded) if isinstance(loaded, DatasetDict) else loaded
    lengths = {key: info.num_examples for key, info in table.info.splits.items()}
    return ArrowRows(entry, table), _parts(split or str(table.split), lengths)


def _text_rows(
    entry: str, builder: DatasetBuilder, read: Callable[[str, Path], Rows], split: str | None
) -> tuple[Rows, list[Part]]:
    files = {str(name): [str(file) for file in each] for name, each in builder.config.data_files.items()}
    if split is None:
        _only(files)
        (split,) = files
    wanted = {name for name in files if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", split)}
    downloads = DownloadManager(dataset_name=builder.dataset_name)
    rows: dict[str, Rows] = {}
    for name in wanted:
        tables = [read(entry, Path(file)) for file in downloads.download(files[name])]
        rows[name] = JoinedRows([(table, range(len(table))) for table in tables])
    parts = _parts(split, {name: len(each) for name, each in rows.items()})
    return JoinedRows([(rows[part.origin], range(part.start, part.end)) for part in parts]), parts


def _sampled_rows(entry: str, builder: DatasetBuilder, split: str | None, count: int) -> tuple[Rows, list[Part]]:
    streams = builder.as_streaming_dataset()
    if split is None:
        _only(streams)
    stream = streams[re.split(r"[\[+]", split)[0]] if split else next(iter(streams.values()))
    rows = Dataset.from_list(list(stream.take(count)), features=stream.features)
    return ArrowRows(entry, rows), [Part(f"the first rows of {entry}", 0, len(rows))]


def _saved_rows(entry: str, folder: Path, split: str | None) -> tuple[Rows, list[Part]]:
    """What `save_to_disk` wrote: several splits, or one, which goes by the name that it had, else ``train``."""
    check_saved(folder)
    saved = load_from_disk(str(folder))
    splits = saved if isinstance(saved, DatasetDict) else {re.split(r"\W", str(saved.split or "train"))[0]: saved}
    if split is None:
        _only(splits)
        (split,) = splits
    parts = _parts(split, {name: len(rows) for name, rows in splits.items()})
    # A range of neighbours is a view of the table; it costs no list of row numbers.
    rows = concatenate_datasets([splits[part.origin].select(range(part.start, part.end)) for part in parts])
    return ArrowRows(entry, rows), parts


def _only(splits: Mapping[str, Any]) -> Any:
    if len(splits) != 1:
        raise ValueError(f"no split is named; there are {', '.join(splits)}")
    return next(iter(splits.values()))


def _parts(split: str, lengths: Mapping[str, int]) -> list[Part]:
    absolute = ReadInstruction.from_spec(split).to_absolute(lengths)
    return [Part(each.splitname, each.from_, each.to) for each in absolute]


def _reason(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split()) or type(error).__name__


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
