"""The MPRM's warm start: it learns from annotation files in VisualPRM400K's format before the first policy step."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from rewards.encoding import Encoder
from rewards.records import Annotated
from rewards.seeds import derive_seed
from rewards.visualprm import UnusableRecordError, as_annotated, parse_record, separator_text
from rl.config import Config, ConfigError
from rl.console import Console
from rl.workers import Pending

NAMED = 3
"""Records left out that are named with their reasons; further ones are counted."""

Start = Callable[[Sequence[Annotated]], Pending[dict[str, float]]]
"""Begins `rewards.mprm.MPRM.train` on some rollouts."""


@dataclass
class Corpus:
    """The records of some files: where the N that looked usable at first are, not what they say.

    Attributes:
        files: The files, in the order of the configuration.
        file: The place of each record's file (N,).
        line: Its line, from 1 on (N,).
        offset: Where that begins, in bytes (N,).
        useless: The places (below N) of those that turned out to be of no use when they were read in full.
        left_out: Records that are of no use, as ``file:line: reason``, the first few of them.
        left_out_count: All of them.
    """

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


def find_records(config: Config) -> Corpus | None:
    """Look through the files of ``mprm.warm_start``; None without any. Images are found, but not yet read in full.

    Raises:
        ConfigError: A file is missing or has no usable record.
    """
    if not config.mprm.warm_start:
        return None
    corpus = Corpus(tuple(file for name in config.mprm.warm_start for file in _files(Path(name))))
    for place, file in enumerate(corpus.files):
        folder, before, offset = image_folder(config, file), len(corpus), 0
        seen: tuple[str, ...] = ()
        with _open(file) as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    images = parse_record(line).images if line.strip() else None
                    if images is not None and images != seen:
                        _check_images(folder, images)
                        seen = images
                    if images is not None:
                        corpus.file.append(place)
                        corpus.line.append(number)
                        corpus.offset.append(offset)
                except UnusableRecordError as error:
                    corpus.leave_out(file, number, error)
                offset += len(line)
        if len(corpus) == before:
            raise ConfigError(f"mprm.warm_start: {file} has no usable record: {corpus.told() or 'it is empty'}")
    return corpus


def warm_start(config: Config, corpus: Corpus, encoder: Encoder, start: Start, console: Console) -> None:
    """Let the MPRM learn from the corpus, in ``mprm.warm_start_epochs`` passes of shuffled batches.

    While it learns from one batch the next one is read: there are never more than two in memory.

    Raises:
        ConfigError: A file turned out to have no usable record.
        WorkerError: The MPRM's worker failed.
    """
    losses: list[float] = []
    under_way: Pending[dict[str, float]] | None = None
    for batch in batches(config, corpus, encoder):
        update = start(batch)
        if under_way is not None:
            losses.append(under_way.result()["loss"])
        under_way = update
    if under_way is not None:
        losses.append(under_way.result()["loss"])
    if corpus.left_out:
        console.say(f"warm start: left out {corpus.left_out_count:,} records: {corpus.told()}")
    part = max(1, len(losses) // 10)
    console.say(
        f"warm start: {len(corpus):,} records, {len(losses):,} updates, "
        f"MPRM loss {np.mean(losses[:part]):.3f} -> {np.mean(losses[-part:]):.3f}"
    )


def batches(config: Config, corpus: Corpus, encoder: Encoder) -> Iterator[list[Annotated]]:
    """The records in the order in which the MPRM learns from them; a pass is shuffled by seed and number of the pass.

    A record that turns out to be of no use is left out of this pass and the later ones.

    Raises:
        ConfigError: After the first pass, if a file turned out to have no usable record.
    """
    for epoch in range(config.mprm.warm_start_epochs):
        order = np.random.default_rng(derive_seed(config.seed, "warm start", epoch)).permutation(len(corpus.line))
        yield from _one_pass(config, corpus, encoder, order.tolist())
        used = {corpus.file[place] for place in range(len(corpus.line)) if place not in corpus.useless}
        for place, file in enumerate(corpus.files):
            if place not in used:
                raise ConfigError(f"mprm.warm_start: {file} has no usable record: {corpus.told()}")


def _one_pass(config: Config, corpus: Corpus, encoder: Encoder, order: Sequence[int]) -> Iterator[list[Annotated]]:
    separator, closed = separator_text(config.task.step_separator), config.task.answer_marker is not None
    batch: list[Annotated] = []
    with ExitStack() as opened:
        contents = [opened.enter_context(_open(file)) for file in corpus.files]
        for place in order:
            if place in corpus.useless:
                continue
            file, line = corpus.files[corpus.file[place]], corpus.line[place]
            content = contents[corpus.file[place]]
            content.seek(corpus.offset[place])
            try:
                record = parse_record(content.readline())
                images = _load_images(image_folder(config, file), record.images)
                batch.append(as_annotated(record, f"{file}:{line}", images, encoder, separator, closed))
            except UnusableRecordError as error:
                corpus.useless.add(place)
                corpus.leave_out(file, line, error)
            if len(batch) == config.mprm.batch_size:
                yield batch
                batch = []
    if batch:
        yield batch


def image_folder(config: Config, file: Path) -> Path:
    """What the image paths in a file are relative to."""
    return file.parent if config.mprm.warm_start_images is None else Path(config.mprm.warm_start_images)


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"mprm.warm_start: {path} has no *.jsonl files")
    return files


def _open(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise ConfigError(f"mprm.warm_start: {file} cannot be read: {error.strerror}") from None


def _check_images(folder: Path, paths: Sequence[str]) -> None:
    for path in paths:
        with _image(folder / path):
            pass


def _load_images(folder: Path, paths: Sequence[str]) -> list[Image.Image]:
    images = []
    for path in paths:
        with _image(folder / path) as image:
            try:
                images.append(image.convert("RGB"))
            except Exception as error:  # a broken image file can fail in any way
                raise UnusableRecordError(f"image {folder / path} cannot be read: {error}") from None
    return images


def _image(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except Exception as error:  # as above
        reason = getattr(error, "strerror", None) or "it is no image"
        raise UnusableRecordError(f"image {path} cannot be read: {reason}") from None
