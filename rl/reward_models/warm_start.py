"""What reward models learn from before the first policy step: the MPRM from annotation files in VisualPRM400K's format,
the outcome model from preference pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rewards.annotation.visualprm import as_annotated, parse_record
from rewards.files.images import image_path, load_images
from rewards.models.encoding import Encoder
from rewards.outcome.preferences import Preference, PreferenceRecord, as_preference, parse_preference
from rewards.records import Annotated
from rewards.seeds import derive_seed
from rl.config import Config
from rl.monitoring.console import Console
from rl.reward_models.lessons import Lessons
from rl.reward_models.record_corpus import Corpus, index_corpus, learn, one_pass
from rl.workers.pending import Pending, Starts

Start = Callable[[Sequence[Any]], Pending[dict[str, float]]]
"""Begins an update on some labelled rollouts, or on some preferences."""
Part = Literal["training", "held out", "all"]


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


def warm_start(
    config: Config,
    corpus: Corpus,
    encoder: Encoder,
    start: Callable[[Sequence[Annotated], float], Pending[dict[str, float]]],
    console: Console,
) -> None:
    """Let the MPRM learn from the corpus, in ``mprm.warm_start_epochs`` passes of shuffled batches.

    Args:
        config: The section ``mprm`` counts.
        corpus: What to learn from.
        encoder: The policy's.
        start: Begins an update on a batch, at a learning rate.
        console: Shows how far it is.

    Raises:
        ConfigError: A file turned out to have no usable record.
        WorkerError: The MPRM's worker failed.
    """
    mprm = config.mprm
    rates = falling_rates(config, len(corpus))
    lessons = batches(config, corpus, encoder)
    _learn(
        corpus,
        lessons,
        mprm.warm_start_epochs,
        lambda batch: start(batch, next(rates)),
        console,
        name="warm start",
        model="MPRM",
    )


def falling_rates(config: Config, records: int) -> Iterator[float]:
    """The learning rate of each update on so many records, from ``mprm.warm_start_learning_rate`` to
    ``mprm.learning_rate``, and of all that come after."""
    mprm = config.mprm
    updates = mprm.warm_start_epochs * math.ceil(records / mprm.batch_size)
    first = mprm.warm_start_learning_rate or mprm.learning_rate
    for number in count():
        yield first + (mprm.learning_rate - first) * min(1.0, number / max(1, updates - 1))


def keep_in_buffer(config: Config, corpus: Corpus, encoder: Encoder, lessons: Lessons, mprm: Starts) -> None:
    """Offer the corpus to the buffer, as ``mprm.warm_start_kept`` has it; the MPRM has learned from it.

    Raises:
        ConfigError: A file turned out to have no usable record.
        UsersCodeError: A selector of the user's failed.
        WorkerError: The MPRM's worker failed.
    """
    once = config.model_copy(update={"mprm": config.mprm.model_copy(update={"warm_start_epochs": 1})})
    for number, annotated in enumerate(batches(once, corpus, encoder)):  # a corpus may be too large to hold
        prompts, rollouts = [entry.prompt for entry in annotated], [entry.rollout for entry in annotated]
        scores = mprm.start("score", prompts, rollouts).result() if lessons.looks_at_scores else None
        entropy = mprm.start("image_entropy", prompts).result() if lessons.looks_at_images else None
        lessons.keep_corpus(number, annotated, scores, entropy)


def batches(config: Config, corpus: Corpus, encoder: Encoder) -> Iterator[list[Annotated]]:
    """The records in the order in which the MPRM learns from them; a pass is shuffled by seed and number of the pass.

    A record that turns out to be of no use is left out of this pass and the later ones.

    Raises:
        ConfigError: After the first pass, if a file turned out to have no usable record.
    """
    separator, closed = encoder.rule.between, config.task.answer_marker is not None

    def make(file: Path, number: int, line: bytes) -> Annotated:
        record = parse_record(line)
        images = load_images(image_path(image_folder(config, file), image) for image in record.images)
        return as_annotated(record, f"{file}, line {number}", images, encoder, separator, closed)

    for epoch in range(config.mprm.warm_start_epochs):
        yield from one_pass(corpus, make, config.mprm.batch_size, config.seed, "warm start", epoch)


def image_folder(config: Config, file: Path) -> Path:
    """What the image paths in a file are relative to, and must not lead out of."""
    return file.parent if config.mprm.warm_start_images is None else Path(config.mprm.warm_start_images)


def index_preferences(key: str, names: Sequence[str]) -> Corpus:
    """Look through files of preference pairs. Images are found, but not yet read in full.

    Args:
        key: The configuration key or option that named them.
        names: JSON lines, see `rewards.outcome.preferences`, or folders of ``*.jsonl``; images are relative to a file's
            folder, and must not lead out of it.

    Raises:
        ConfigError: A file is missing or has no usable pair.
    """
    return index_corpus(
        key, names, lambda file, line: [image_path(file.parent, image) for image in parse_preference(line).images]
    )


def preference_batches(
    corpus: Corpus, encoder: Encoder, batch_size: int, *seed: object, part: Part = "all", held_out: float = 0.0
) -> Iterator[list[Preference]]:
    """One pass over the pairs in batches, shuffled by ``seed``.

    Args:
        corpus: The pairs.
        encoder: Of the model that learns.
        batch_size: Pairs of a batch.
        seed: See `rewards.seeds.derive_seed`.
        part: Which of them. All pairs of one prompt are in the same part.
        held_out: Share of the prompts that are held out.

    Raises:
        ConfigError: In the end, if a file turned out to have no usable pair.
    """

    def make(file: Path, number: int, line: bytes) -> Preference | None:
        record = parse_preference(line)
        if part != "all" and is_held_out(record, held_out) != (part == "held out"):
            return None
        images = load_images(image_path(file.parent, image) for image in record.images)
        return as_preference(record, f"{file}, line {number}", images, encoder)

    return one_pass(corpus, make, batch_size, *seed)


def is_held_out(record: PreferenceRecord, share: float) -> bool:
    """Whether a record is among those held out: its prompt and images decide, whatever the file or the line."""
    return derive_seed("held out", record.prompt, *record.images) < share * 2**31


def find_preferences(config: Config) -> Corpus | None:
    """Look through the files of ``outcome_model.pairs``; None without any, or in a run without an outcome model.

    Raises:
        ConfigError: A file is missing or has no usable pair.
    """
    settings = config.outcome_model
    return index_preferences("outcome_model.pairs", settings.pairs) if settings.is_used and settings.pairs else None


def learn_preferences(config: Config, corpus: Corpus, encoder: Encoder, start: Start, console: Console) -> None:
    """Let the outcome model learn from the corpus, in ``outcome_model.pairs_epochs`` shuffled passes.

    Raises:
        ConfigError: A file turned out to have no usable pair.
        WorkerError: The outcome model's worker failed.
    """
    settings = config.outcome_model
    passes = (
        batch
        for epoch in range(settings.pairs_epochs)
        for batch in preference_batches(corpus, encoder, settings.batch_size, config.seed, "preferences", epoch)
    )
    _learn(corpus, passes, settings.pairs_epochs, start, console, name="preference pairs", model="outcome model")


def _learn(
    corpus: Corpus, lessons: Iterable[list[Any]], epochs: int, start: Start, console: Console, *, name: str, model: str
) -> None:
    """Let a model learn from all lessons of all epochs, and say in the end how its loss went."""
    with console.progress(name, len(corpus) * epochs) as advance:
        losses = [report["loss"] for report in learn(lessons, start, advance)]
    if corpus.left_out:
        console.say(f"{name}: left out {corpus.left_out_count:,} records: {corpus.told()}")
    part = max(1, len(losses) // 10)
    console.say(
        f"{name}: {len(corpus):,} records, {len(losses):,} updates, "
        f"{model} loss {np.mean(losses[:part]):.3f} -> {np.mean(losses[-part:]):.3f}"
    )
