"""An outcome model learns from preference pairs before any run, and is measured on pairs of other prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rewards.outcome.outcome_model import OutcomeModel
from rewards.outcome.preferences import pair_accuracy
from rl.config import Config
from rl.errors import ConfigError
from rl.files.folders import new_folder
from rl.monitoring.console import Console
from rl.monitoring.terminal import progress_bar
from rl.reward_models.outcome import open_configured_model
from rl.reward_models.record_corpus import Corpus
from rl.reward_models.warm_start import index_preferences, preference_batches

REPORT_FILE = "training.json"


@dataclass(frozen=True)
class TrainingOrder:
    """What to learn from, and where the model goes.

    Attributes:
        pairs: Files of preference pairs, or folders of them.
        named_by: The option or key that names them.
        output: The new folder.
        held_out: Share of the prompts whose pairs are for measuring alone.
    """

    pairs: tuple[str, ...]
    named_by: str
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


@dataclass(frozen=True)
class Trained:
    """The loss of each update, and the held-out pairs before the first and after the last one."""

    losses: list[float]
    before: Measured
    after: Measured

    def ends(self) -> tuple[float, float]:
        """The mean loss of the first and of the last tenth of the updates."""
        part = max(1, len(self.losses) // 10)
        return float(np.mean(self.losses[:part])), float(np.mean(self.losses[-part:]))


def train_on_pairs(config: Config, order: TrainingOrder, console: Console) -> Trained:
    """Train, measure, and save the model into ``order.output``.

    Raises:
        ConfigError: The configuration or a file is wrong, or the held-out share leaves nothing to learn or to measure.
        RuntimeError, ValueError, OSError: It failed.
    """
    corpus = index_preferences(order.named_by, order.pairs)
    console.say(f"{len(corpus):,} preference pairs in {len(corpus.files)} file(s)")
    threads = torch.get_num_threads()
    model = _open(config)
    torch.set_num_threads(threads)  # here nobody else wants them
    with console.waiting("measuring the held-out pairs"):
        before = _measure(config, model, corpus, order)
    losses = _train(config, model, corpus, order, len(corpus) - before.pairs)
    with console.waiting("measuring them again"):
        after = _measure(config, model, corpus, order)
    if corpus.left_out:
        console.say(f"left out {corpus.left_out_count:,} pairs: {corpus.told()}")
    trained = Trained(losses, before, after)
    _save(model, order.output, trained)
    return trained


def _open(config: Config) -> OutcomeModel:
    try:
        return open_configured_model(config)
    except ConfigError:
        raise
    except Exception as error:  # a broken checkpoint can fail in any way
        named = config.outcome_model.checkpoint or config.policy.checkpoint
        reason = " ".join(str(error).split())
        raise ConfigError(f"outcome_model.checkpoint: {named!r} cannot be opened: {reason}") from None


def _measure(config: Config, model: OutcomeModel, corpus: Corpus, order: TrainingOrder) -> Measured:
    size, seed = config.outcome_model.batch_size, config.seed
    batches = preference_batches(corpus, model.encoder, size, seed, "measure", part="held out", held_out=order.held_out)
    margins = [model.margins(batch) for batch in batches]
    if not margins:
        raise ConfigError(
            f"--held-out {order.held_out:g}: holds out none of {len(corpus):,} pairs; name a larger share"
        )
    found = np.concatenate(margins)
    return Measured(len(found), pair_accuracy(found))


def _train(config: Config, model: OutcomeModel, corpus: Corpus, order: TrainingOrder, pairs: int) -> list[float]:
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


def _save(model: OutcomeModel, folder: Path, trained: Trained) -> None:
    """Write the model and the report."""
    before, after = trained.before, trained.after
    held_out = {"pairs": after.pairs, "accuracy_before": before.accuracy, "accuracy_after": after.accuracy}
    report = {"updates": len(trained.losses), "losses": trained.losses, "held_out": held_out}
    with new_folder(folder) as partial:
        model.save(partial)
        (partial / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n")
