"""Preference pairs from files: what an outcome model learns from before the first policy step, or on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from rewards.encoding import Encoder
from rewards.image_files import image_path, load_images
from rewards.outcome.preferences import Preference, PreferenceRecord, as_preference, parse_preference
from rewards.seeds import derive_seed
from rl.config import Config
from rl.console import Console
from rl.pending import Pending
from rl.record_corpus import Corpus, index_corpus, learn, one_pass

Start = Callable[[Sequence[Preference]], Pending[dict[str, float]]]
"""Begins `rewards.outcome.outcome_model.OutcomeModel.train` on some pairs."""

Part = Literal["training", "held out", "all"]


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
        return as_preference(record, f"{file}:{number}", images, encoder)

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
    with console.progress("preference pairs", len(corpus) * settings.pairs_epochs) as advance:
        losses = [report["loss"] for report in learn(passes, start, advance)]
    if corpus.left_out:
        console.say(f"preference pairs: left out {corpus.left_out_count:,}: {corpus.told()}")
    part = max(1, len(losses) // 10)
    console.say(
        f"preference pairs: {len(corpus):,}, {len(losses):,} updates, "
        f"outcome model loss {np.mean(losses[:part]):.3f} -> {np.mean(losses[-part:]):.3f}"
    )
