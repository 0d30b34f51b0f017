"""The MPRM's warm start: it learns from annotation files in VisualPRM400K's format before the first policy step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rewards.encoding import Encoder
from rewards.image_files import image_path, load_images
from rewards.records import Annotated
from rewards.visualprm import as_annotated, parse_record, separator_text
from rl.config import Config
from rl.console import Console
from rl.pending import Pending
from rl.record_corpus import Corpus, index_corpus, learn, one_pass

Start = Callable[[Sequence[Annotated]], Pending[dict[str, float]]]
"""Begins `rewards.process_model.mprm.MPRM.train` on some rollouts."""


def find_records(config: Config) -> Corpus | None:
    """Look through the files of ``mprm.warm_start``; None without any. Images are found, but not yet read in full.

    Raises:
        ConfigError: A file is missing or has no usable record.
    """
    if not config.mprm.warm_start:
        return None

    def images(file: Path, line: bytes) -> list[Path]:
        return [image_path(image_folder(config, file), image) for image in parse_record(line).images]

    return index_corpus("mprm.warm_start", config.mprm.warm_start, images)


def warm_start(config: Config, corpus: Corpus, encoder: Encoder, start: Start, console: Console) -> None:
    """Let the MPRM learn from the corpus, in ``mprm.warm_start_epochs`` passes of shuffled batches.

    Raises:
        ConfigError: A file turned out to have no usable record.
        WorkerError: The MPRM's worker failed.
    """
    with console.progress("warm start", len(corpus) * config.mprm.warm_start_epochs) as advance:
        losses = [report["loss"] for report in learn(batches(config, corpus, encoder), start, advance)]
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
    separator, closed = separator_text(config.task.step_separator), config.task.answer_marker is not None

    def make(file: Path, number: int, line: bytes) -> Annotated:
        record = parse_record(line)
        images = load_images(image_path(image_folder(config, file), image) for image in record.images)
        return as_annotated(record, f"{file}:{number}", images, encoder, separator, closed)

    for epoch in range(config.mprm.warm_start_epochs):
        yield from one_pass(corpus, make, config.mprm.batch_size, config.seed, "warm start", epoch)


def image_folder(config: Config, file: Path) -> Path:
    """What the image paths in a file are relative to, and must not lead out of."""
    return file.parent if config.mprm.warm_start_images is None else Path(config.mprm.warm_start_images)
