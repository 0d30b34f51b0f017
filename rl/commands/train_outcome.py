"""The body of ``sieve train-outcome``: an outcome model learns from preference pairs, and is measured on others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rewards.outcome.outcome_model import OutcomeModel
from rewards.outcome.preferences import pair_accuracy
from rl.config import Config, load_config
from rl.errors import ConfigError
from rl.files.folders import check_new_folder, new_folder
from rl.monitoring.console import Console
from rl.monitoring.terminal import progress_bar
from rl.reward_models.outcome import open_configured_model
from rl.reward_models.record_corpus import Corpus
from rl.reward_models.warm_start import index_preferences, preference_batches

REPORT_FILE = "training.json"


@dataclass(frozen=True)
class Order:
    """What to learn from, and where the model goes.

    Attributes:
        pairs: Files of preference pairs, or folders of them.
        output: The new folder.
        held_out: Share of the prompts whose pairs are for measuring alone.
    """

    pairs: tuple[str, ...]
    output: Path
    held_out: float


@dataclass(frozen=True)
class Measured:
    """How many of so many held-out ``pairs`` are in the right order: a share, with a 95 % interval of ± ``margin``."""

    pairs: int
    accuracy: float

    @property
    def margin(self) -> float:
        return 1.96 * float(np.sqrt(self.accuracy * (1 - self.accuracy) / self.pairs))


def run(config: str, overrides: Sequence[str], pairs: Sequence[str], output: Path | None, held_out: float) -> None:
    """Train, save, and say what it came to; `rl.cli` describes the arguments.

    Raises:
        ConfigError: An argument, the configuration or a file is wrong.
        RuntimeError, OSError: It failed.
    """
    resolved = load_config(config, overrides)
    order = make_order(pairs or resolved.outcome_model.pairs, output, held_out)
    console = Console()
    key = "--pairs" if pairs else "outcome_model.pairs"
    corpus = index_preferences(key, order.pairs)
    console.say(f"{len(corpus):,} preference pairs in {len(corpus.files)} file(s)")
    threads = torch.get_num_threads()
    model = _open(resolved)
    torch.set_num_threads(threads)  # here nobody else wants them
    with console.waiting("measuring the held-out pairs"):
        before = _measure(resolved, model, corpus, order)
    losses = _train(resolved, model, corpus, order, len(corpus) - before.pairs)
    with console.waiting("measuring them again"):
        after = _measure(resolved, model, corpus, order)
    if corpus.left_out:
        console.say(f"left out {corpus.left_out_count:,} pairs: {corpus.told()}")
    _save(model, order.output, losses, before, after)
    part = max(1, len(losses) // 10)
    console.say(
        f"\ntrained    {len(losses):,} updates, loss {np.mean(losses[:part]):.3f} -> {np.mean(losses[-part:]):.3f}\n"
        f"held out   {after.pairs:,} pairs, in the right order {before.accuracy:.3f} -> {after.accuracy:.3f} "
        f"(± {after.margin:.3f}; 0.5 is chance)\n"
        f"written    {order.output}\n\n"
        f"next:      train with outcome_model.checkpoint={order.output} outcome_model.reward=hybrid"
    )


def make_order(pairs: Sequence[str], output: Path | None, held_out: float) -> Order:
    """The order that the options describe.

    Raises:
        ConfigError: An option is missing or out of its range, or the output is there already.
    """
    if not pairs:
        raise ConfigError("name the preference pairs with --pairs FILE.jsonl")
    if output is None:
        raise ConfigError("name the new model's folder with -o FOLDER")
    if not 0 < held_out < 1:
        raise ConfigError(f"--held-out {held_out:g}: allowed is a share above 0 and below 1")
    check_new_folder("-o", output)
    return Order(tuple(pairs), output, held_out)


def _open(config: Config) -> OutcomeModel:
    try:
        return open_configured_model(config)
    except ConfigError:
        raise
    except Exception as error:  # a broken checkpoint can fail in any way
        named = config.outcome_model.checkpoint or config.policy.checkpoint
        reason = " ".join(str(error).split())
        raise ConfigError(f"outcome_model.checkpoint: {named!r} cannot be opened: {reason}") from None


def _measure(config: Config, model: OutcomeModel, corpus: Corpus, order: Order) -> Measured:
    size, seed = config.outcome_model.batch_size, config.seed
    batches = preference_batches(corpus, model.encoder, size, seed, "measure", part="held out", held_out=order.held_out)
    margins = [model.margins(batch) for batch in batches]
    if not margins:
        raise ConfigError(
            f"--held-out {order.held_out:g}: holds out none of {len(corpus):,} pairs; name a larger share"
        )
    found = np.concatenate(margins)
    return Measured(len(found), pair_accuracy(found))


def _train(config: Config, model: OutcomeModel, corpus: Corpus, order: Order, pairs: int) -> list[float]:
    """Passes over the training pairs, of which there are so many; the loss of each update."""
    settings, losses = config.outcome_model, list[float]()
    with progress_bar("training pairs", pairs * settings.pairs_epochs) as advance:
        for epoch in range(settings.pairs_epochs):
            batches = preference_batches(
                *(corpus, model.encoder, settings.batch_size, config.seed, "preferences", epoch),
                part="training",
                held_out=order.held_out,
            )
            for batch in batches:
                report = model.train(batch)
                if report["skipped"]:
                    raise RuntimeError(f"the loss of update {len(losses) + 1} is not finite")
                losses.append(report["loss"])
                advance(len(batch))
    if not losses:
        raise ConfigError(f"--held-out {order.held_out:g}: holds out all {len(corpus):,} pairs; name a smaller share")
    return losses


def _save(model: OutcomeModel, folder: Path, losses: list[float], before: Measured, after: Measured) -> None:
    """Write the model and the report."""
    held_out = {"pairs": after.pairs, "accuracy_before": before.accuracy, "accuracy_after": after.accuracy}
    report = {"updates": len(losses), "losses": losses, "held_out": held_out}
    with new_folder(folder) as partial:
        model.save(partial)
        (partial / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n")
