"""What a replay drives: selector, buffer, guard and reward model, each the same as in `rl.loop`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rewards.process_model.ensemble import ProcessEnsemble
from rewards.process_model.guard import HeldBack
from rewards.process_model.mprm import MPRM
from rewards.records import Annotated, StepScores
from rewards.seeds import derive_seed
from rl.config import Config
from rl.instruments.replay.measuring import label_noise
from rl.instruments.replay.relabelling import Labelled
from rl.instruments.replay.stream import RecordedRollout
from rl.reward_models.lessons import make_buffer, make_configured_selector
from rl.reward_models.mprm import build_mprm
from selection.buffer import StreamingBuffer
from selection.candidates import gather_candidates
from selection.rows import identity
from selection.selectors import NEED_COMPLEXITY, NEED_STEP_SCORES, SELECTORS, Selector, apply_selector

TOTALS = {"optimizer_steps", "offered", "labelled_steps", "continuation_tokens"}


@dataclass
class Learning:
    """Selector, buffer and reward model on their way through a stream.

    Attributes:
        truths: The truth of all rollouts offered, for measuring alone.
        optimizer_steps, offered, labelled_steps, tokens: So far.
        owed: Optimizer steps that were due while nothing was kept.
    """

    config: Config
    mprm: MPRM | ProcessEnsemble
    selector: Selector
    buffer: StreamingBuffer
    held_back: HeldBack
    truths: dict[object, np.ndarray] = field(default_factory=dict)
    optimizer_steps: int = 0
    offered: int = 0
    labelled_steps: int = 0
    tokens: int = 0
    owed: int = 0

    def score(self, rollouts: Sequence[RecordedRollout]) -> list[StepScores]:
        """What the reward model now says of some rollouts."""
        entries = [rollout.entry for rollout in rollouts]
        return self.mprm.score([entry.prompt for entry in entries], [entry.rollout for entry in entries])

    def offer(self, labelled: Labelled, step: int | None) -> None:
        """What the loop does with the labelled rollouts of a policy step, counted from 1; None for a whole corpus."""
        name, entries = self.config.selection.selector, labelled.entries
        looks = name in NEED_COMPLEXITY or getattr(self.selector, "looks_at_images", False)
        candidates = gather_candidates(
            entries,
            # A selector of the user's may want them.
            self.score(labelled.rollouts) if name in NEED_STEP_SCORES or name not in SELECTORS else None,
            self.mprm.image_entropy([entry.prompt for entry in entries]) if looks else None,
            np.random.default_rng(derive_seed(self.config.seed, "select", "corpus" if step is None else step - 1)),
        )
        informative = apply_selector(f"selection.selector {name}", self.selector, candidates)
        for_learning = self.held_back.split(entries)
        self.buffer.offer([entries[place] for place in for_learning], informative[for_learning])
        self.truths |= {identity(rollout.entry): rollout.truth for rollout in labelled.rollouts}
        self.offered += len(entries)
        self.labelled_steps += sum(int((entry.counts.sampled > 0).sum()) for entry in entries)
        self.tokens += labelled.tokens

    def learn(self, optimizer_steps: int) -> None:
        """One update of the reward model, of so many optimizer steps and those that are owed."""
        optimizer_steps += self.owed
        if not len(self.buffer):
            self.owed = optimizer_steps
            return
        wanted = optimizer_steps * self.config.mprm.batch_size
        samples: list[Annotated] = []
        while len(samples) < wanted:
            samples += self.buffer.draw(wanted - len(samples))
        if samples:
            self.mprm.update(samples, self.held_back.entries(), self.config.mprm.guard_margin)
        self.optimizer_steps, self.owed = self.optimizer_steps + optimizer_steps, 0

    def so_far(self) -> dict[str, float]:
        """What it took (`TOTALS`), and what is kept."""
        kept = self.buffer.statistics()
        return label_noise(self.buffer.kept(), self.truths) | {
            "kept": kept["size"],
            "age": kept["age"],
            "all_negative": kept["kept_all_negative"],
            "optimizer_steps": float(self.optimizer_steps),
            "offered": float(self.offered),
            "labelled_steps": float(self.labelled_steps),
            "continuation_tokens": float(self.tokens),
        }


def make_learning(config: Config) -> Learning:
    """At the beginning of a stream, with nothing kept and nothing learned.

    Raises:
        ConfigError: The configuration names no selector.
    """
    selector = make_configured_selector(config)
    held_back = HeldBack(config.mprm.guard_share, config.mprm.guard_capacity, derive_seed(config.seed, "guard"))
    return Learning(config, build_mprm(config), selector, make_buffer(config), held_back)
