"""Prompts from local JSON lines or Parquet files, read with ``datasets``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import escape
from io import BytesIO
from pathlib import Path
from typing import Any

from datasets import Dataset
from PIL import Image
from pyarrow.parquet import read_metadata

from rewards.records import Prompt
from rl.tasks.task import Split

FIELDS = ("question", "answer", "images", "source")
# Not `load_dataset`, which tells its makers' server of every call.
LOADERS = {".jsonl": Dataset.from_json, ".json": Dataset.from_json, ".parquet": Dataset.from_parquet}


class FileTask:
    """Questions from the user's own files.

    A row holds a question, a reference answer, and one image or a list of them: paths relative to the file, or the
    bytes of an image file, plain or as the ``bytes`` that Parquet tables of the `datasets` library carry. ``source`` is
    optional; without it a row's source is the name of its file.

    Args:
        train_files, heldout_files: JSON lines (``.jsonl``) or Parquet (``.parquet``).
        columns: Which column holds a field, where the names differ, for example ``{"question": "problem"}``.
        instruction: Added to every question, on a line of its own.

    Raises:
        ValueError: A file or a column is missing or of an unknown kind, a question or an answer is missing, or a file
            is in both splits; names the file and what is allowed.
    """

    def __init__(
        self,
        train_files: Sequence[str],
        heldout_files: Sequence[str],
        columns: Mapping[str, str] | None = None,
        instruction: str = "",
    ) -> None:
        self._instruction = instruction
        unknown = set(columns or {}) - set(FIELDS)
        if unknown:
            raise ValueError(f"task.columns: no field {sorted(unknown)[0]!r}; allowed: {', '.join(FIELDS)}")
        self._columns = {field: (columns or {}).get(field, field) for field in FIELDS}
        self._required = [field for field in FIELDS if field != "source" or field in (columns or {})]
        shared = {Path(name).resolve() for name in train_files} & {Path(name).resolve() for name in heldout_files}
        if shared:
            raise ValueError(f"{min(shared)}: is in both task.train_files and task.heldout_files")
        self._splits: dict[Split, list[tuple[Path, Dataset]]] = {
            "train": [self._open(Path(name)) for name in train_files],
            "heldout": [self._open(Path(name)) for name in heldout_files],
        }
        named = {name for files in self._splits.values() for path, rows in files for name in self._sources(path, rows)}
        self.sources = tuple(sorted(named))

    def prompt(self, split: Split, index: int) -> Prompt:
        """Row ``index`` of the split's files, in order, from the first again after the last."""
        files = self._splits[split]
        position = index % sum(len(rows) for _, rows in files)
        for path, rows in files:
            if position < len(rows):
                return self._prompt(path, position, self._row(path, position, rows))
            position -= len(rows)
        raise AssertionError("the position lies within the files")

    def _open(self, path: Path) -> tuple[Path, Dataset]:
        if path.suffix not in LOADERS:
            raise ValueError(f"{path}: unknown kind of file; allowed: {', '.join(LOADERS)}")
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        try:
            empty = path.stat().st_size == 0 or (path.suffix == ".parquet" and read_metadata(path).num_rows == 0)
            rows = None if empty else LOADERS[path.suffix](escape(str(path)))
        except Exception as error:  # datasets raises many kinds; each means that the file is not what its name says
            reason = " ".join(str(error.__cause__ or error).split())
            raise ValueError(f"{path}: not readable as {path.suffix[1:]}: {reason}") from None
        if rows is None or len(rows) == 0:
            raise ValueError(f"{path}: holds no rows")
        for field in self._required:
            if self._columns[field] not in rows.column_names:
                raise ValueError(
                    f"{path}: no column {self._columns[field]!r} for {field}; "
                    f"there are {', '.join(rows.column_names)}; name another with task.columns.{field}"
                )
        for field in ("question", "answer"):
            missing = rows.data.column(self._columns[field]).is_null().index(True).as_py()
            if missing >= 0:
                raise ValueError(f"{path}: row {missing}: no {field}")
        return path, rows

    def _sources(self, path: Path, rows: Dataset) -> set[str]:
        column = self._columns["source"]
        return {_named(path, value) for value in rows.unique(column)} if column in rows.column_names else {path.stem}

    @staticmethod
    def _row(path: Path, position: int, rows: Dataset) -> Mapping[str, Any]:
        try:
            return rows[position]
        except Exception as error:  # datasets itself opens what it knows to be an image
            raise ValueError(f"{path}: row {position}: image cannot be read: {error}") from None

    def _prompt(self, path: Path, position: int, row: Mapping[str, Any]) -> Prompt:
        images = row[self._columns["images"]]
        listed = images if isinstance(images, list) else [images]
        return Prompt(
            id=f"{path}:{position}",
            source=_named(path, row.get(self._columns["source"])),
            question="\n".join(filter(None, [str(row[self._columns["question"]]), self._instruction])),
            images=tuple(self._image(path, position, image) for image in listed if image is not None),
            answer=str(row[self._columns["answer"]]),
        )

    @staticmethod
    def _image(path: Path, position: int, image: Any) -> Image.Image:
        try:
            if isinstance(image, Image.Image):
                return image.convert("RGB")
            data = image.get("bytes") if isinstance(image, Mapping) else image
            if isinstance(data, bytes):
                return Image.open(BytesIO(data)).convert("RGB")
            name = image["path"] if isinstance(image, Mapping) else str(image)
            with Image.open(path.parent / name) as opened:
                return opened.convert("RGB")
        except (OSError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: row {position}: image cannot be read: {error}") from None


def _named(path: Path, source: Any) -> str:
    return path.stem if source in (None, "") else str(source)
