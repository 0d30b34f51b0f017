"""What a replay drives: the reward model and the lessons of `rl.loop`, and totals of what they took."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from rewards.process_model.ensemble import ProcessEnsemble
from rewards.process_model.mprm import MPRM
from rewards.records import Annotated, StepScores
from rl.config import Config
from rl.instruments.replay.measuring import label_noise
from rl.instruments.replay.relabelling import Labelled
from rl.instruments.replay.stream import RecordedRollout
from rl.reward_models.lessons import Lessons
from rl.reward_models.mprm import build_mprm
from selection.rows import identity

TOTALS = {"optimizer_steps", "offered", "labelled_steps", "continuation_tokens"}


@dataclass
class Learning:
    """Lessons and reward model on their way through a stream.

    Attributes:
        truths: The truth of all rollouts offered, for measuring alone.
        optimizer_steps, offered, labelled_steps, tokens: So far.
        owed: Optimizer steps that were due while nothing was kept.
        under_way: Makes the offers whose labels are not due yet, oldest first; see `annotation.delay`.
    """

    config: Config
    mprm: MPRM | ProcessEnsemble
    lessons: Lessons
    truths: dict[object, np.ndarray] = field(default_factory=dict)
    optimizer_steps: int = 0
    offered: int = 0
    labelled_steps: int = 0
    tokens: int = 0
    owed: int = 0
    under_way: deque[Callable[[], None]] = field(default_factory=deque)

    def score(self, rollouts: Sequence[RecordedRollout]) -> list[StepScores]:
        """What the reward model now says of some rollouts."""
        entries = [rollout.entry for rollout in rollouts]
        return self.mprm.score([entry.prompt for entry in entries], [entry.rollout for entry in entries])

    def offer(self, labelled: Labelled, step: int | None) -> None:
        """Offer the labelled rollouts of a policy step, counted from 1, as late as a run with these settings would, but
        with what the reward model says of them now; None for a whole corpus, which is offered at once."""
        prompts, lessons = [entry.prompt for entry in labelled.entries], self.lessons
        scores = self.score(labelled.rollouts) if lessons.looks_at_scores else None
        entropy = self.mprm.image_entropy(prompts) if lessons.looks_at_images else None
        self.under_way.append(partial(self._offer, labelled, step, scores, entropy))
        if step is None or len(self.under_way) > self.config.annotation.delay:
            self.under_way.popleft()()

    def _offer(
        self, labelled: Labelled, step: int | None, scores: list[StepScores] | None, entropy: np.ndarray | None
    ) -> None:
        entries = labelled.entries
        self.lessons.offer("corpus" if step is None else step - 1, entries, scores, entropy)
        self.truths |= {identity(rollout.entry): rollout.truth for rollout in labelled.rollouts}
        self.offered += len(entries)
        self.labelled_steps += sum(int((entry.counts.sampled > 0).sum()) for entry in entries)
        self.tokens += labelled.tokens

    def learn(self, optimizer_steps: int) -> None:
        """One update of the reward model, of so many optimizer steps and those that are owed."""
        optimizer_steps += self.owed
        buffer = self.lessons.buffer
        if not len(buffer):
            self.owed = optimizer_steps
            return
        wanted = optimizer_steps * self.config.mprm.batch_size
        samples: list[Annotated] = []
        while len(samples) < wanted:
            samples += buffer.draw(wanted - len(samples))
        if samples:
            self.mprm.update(*self.lessons.lesson(samples))
        self.optimizer_steps, self.owed = self.optimizer_steps + optimizer_steps, 0

    def so_far(self) -> dict[str, float]:
        """What it took (`TOTALS`), and what is kept."""
        buffer = self.lessons.buffer
        kept = buffer.statistics()
        return label_noise(buffer.kept(), self.truths) | {
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
    lessons = Lessons(config)  # first: it refuses what is no selector before a model is loaded
    return Learning(config, build_mprm(config), lessons)
