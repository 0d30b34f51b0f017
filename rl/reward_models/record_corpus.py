"""Records on the lines of files, too many to hold: found once, then read one by one in any order, and learned from."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from rewards.files.images import UnreadableImageError, check_images
from rewards.files.json_records import UnusableRecordError
from rewards.files.plain_text import UnreadableTextError, open_lines, record_files
from rewards.seeds import derive_seed
from rl.errors import ConfigError
from rl.monitoring.terminal import progress_bar
from rl.workers.pending import Pending

NAMED = 3
"""Records left out that are named with their reasons; further ones are counted."""

Lesson = TypeVar("Lesson")
ImagePaths = Callable[[Path, bytes], Sequence[Path]]
"""The images of a record, given its file and its line; raises `UnusableRecordError`."""
MakeLesson = Callable[[Path, int, bytes], Lesson | None]
"""What there is to learn from a record, given its file, the number of its line, and the line; None for nothing. Raises
`UnusableRecordError` or `UnreadableImageError`."""


@dataclass
class Corpus:
    """The records of some files: where the N that looked usable at first are, not what they say.

    Attributes:
        key: The configuration key or option that named the files.
        files: The files, in order.
        file: The place of each record's file (N,).
        line: Its line, from 1 on (N,).
        offset: Where that begins in the file's plain lines, in bytes (N,).
        useless: The places (below N) of those that turned out to be of no use when they were read in full.
        left_out: Records that are of no use, as ``file:line: reason``, the first few of them.
        left_out_count: All of them.
    """

    key: str
    files: tuple[Path, ...]
    file: array[int] = field(default_factory=lambda: array("q"))
    line: array[int] = field(default_factory=lambda: array("q"))
    offset: array[int] = field(default_factory=lambda: array("q"))
    useless: set[int] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)
    left_out_count: int = 0

    def __len__(self) -> int:
        return len(self.line) - len(self.useless)

    def leave_out(self, file: Path, line: int, reason: object) -> None:
        """Count a record that is of no use, and name it if it is one of the first."""
        self.left_out_count += 1
        if len(self.left_out) < NAMED:
            self.left_out.append(f"{file}:{line}: {reason}")

    def told(self) -> str:
        """The records left out, in one line."""
        more = self.left_out_count - len(self.left_out)
        return "; ".join(self.left_out) + (f"; and {more:,} more" if more else "")


def index_corpus(key: str, names: Sequence[str], images: ImagePaths) -> Corpus:
    """Look through files, see `rewards.files.plain_text.open_lines`; a folder stands for its ``*.jsonl``. Images are
    found, but not yet read in full.

    Raises:
        ConfigError: A file is missing or has no usable record.
    """
    corpus = Corpus(key, tuple(file for name in names for file in _files(key, Path(name))))
    for place, file in enumerate(corpus.files):
        before, offset = len(corpus), 0
        seen: Sequence[Path] = ()
        with (
            _open(key, file) as lines,
            progress_bar(f"{file.name}, bytes", os.fstat(lines.fileno()).st_size, lines=False) as advance,
        ):
            for number, line in enumerate(lines, start=1):
                try:
                    if line.strip():
                        found = images(file, line)
                        if found != seen:
                            check_images(found)
                            seen = found
                        corpus.file.append(place)
                        corpus.line.append(number)
                        corpus.offset.append(offset)
                except (UnusableRecordError, UnreadableImageError) as error:
                    corpus.leave_out(file, number, error)
                offset += len(line)
                advance(len(line))
        if len(corpus) == before:
            raise ConfigError(f"{key}: {file} has no usable record: {corpus.told() or 'it is empty'}")
    return corpus


def one_pass(corpus: Corpus, make: MakeLesson[Lesson], batch_size: int, *seed: object) -> Iterator[list[Lesson]]:
    """All records in batches, shuffled by ``seed``. One that turns out to be of no use is left out for good.

    Raises:
        ConfigError: In the end, if a file turned out to have no usable record.
    """
    batch: list[Lesson] = []
    with ExitStack() as opened:
        contents = [opened.enter_context(_open(corpus.key, file)) for file in corpus.files]
        for place in np.random.default_rng(derive_seed(*seed)).permutation(len(corpus.line)).tolist():
            if place in corpus.useless:
                continue
            file, line = corpus.files[corpus.file[place]], corpus.line[place]
            content = contents[corpus.file[place]]
            content.seek(corpus.offset[place])
            try:
                lesson = make(file, line, content.readline())
            except (UnusableRecordError, UnreadableImageError) as error:
                corpus.useless.add(place)
                corpus.leave_out(file, line, error)
                continue
            if lesson is not None:
                batch.append(lesson)
            if len(batch) == batch_size:
                yield batch
                batch = []
    if batch:
        yield batch
    used = {corpus.file[place] for place in range(len(corpus.line)) if place not in corpus.useless}
    for place, file in enumerate(corpus.files):
        if place not in used:
            raise ConfigError(f"{corpus.key}: {file} has no usable record: {corpus.told()}")


def learn(
    lessons: Iterable[list[Lesson]],
    start: Callable[[list[Lesson]], Pending[dict[str, float]]],
    advance: Callable[[int], None],
) -> list[dict[str, float]]:
    """Let a model learn from one batch after another: what each update reported.

    While it learns from one batch the next one is read: there are never more than two in memory.

    Args:
        lessons: The batches.
        start: Begins an update.
        advance: Is told how many more lessons are under way.

    Raises:
        ConfigError: A file turned out to have no usable record.
        WorkerError: The model's worker failed.
    """
    reports: list[dict[str, float]] = []
    under_way: Pending[dict[str, float]] | None = None
    for batch in lessons:
        update = start(batch)
        advance(len(batch))
        if under_way is not None:
            reports.append(under_way.result())
        under_way = update
    if under_way is not None:
        reports.append(under_way.result())
    return reports


def _files(key: str, path: Path) -> list[Path]:
    files = record_files(path) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"{key}: {path} has no *.jsonl files")
    return files


def _open(key: str, file: Path) -> BinaryIO:
    try:
        return open_lines(file)
    except UnreadableTextError as error:
        raise ConfigError(f"{key}: {file} cannot be read: {error}") from None
    except OSError as error:
        raise ConfigError(f"{key}: {file} cannot be read: {error.strerror}") from None
