"""What the MPRM learns from: which labelled rollouts are offered, kept and held back, and its lessons from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from rewards.process_model.guard import HeldBack
from rewards.records import Annotated, StepScores
from rewards.seeds import derive_seed
from rewards.users_code import UsersCodeError
from rl.config import Config
from rl.config.users_parts import resolve_made
from rl.monitoring.report import Offer
from rl.workers.pending import Pending, Ready, Starts
from selection.buffer import StreamingBuffer
from selection.candidates import Candidates, gather_candidates
from selection.rows import load_buffer, save_buffer
from selection.selectors import (
    NEED_COMPLEXITY,
    NEED_STEP_SCORES,
    SELECTORS,
    Selector,
    apply_selector,
    make_selector,
)

BUFFER_FILE, HELD_BACK_FILE = "buffer.parquet", "held_back.parquet"


class Lessons:
    """Selector, held-back rollouts and buffer.

    An *offer* shows them the freshly labelled rollouts of a policy step: the selector says how informative each is, the
    groups that the guard judges by are held back, and the buffer keeps the informative ones of the others. A *lesson*
    is one update of the MPRM on rollouts that are drawn from the buffer.

    Attributes:
        selector, held_back, buffer: As the configuration has them, with nothing kept.

    Raises:
        ConfigError: The configuration names no selector.
    """

    def __init__(self, config: Config) -> None:
        self._config, mprm = config, config.mprm
        self.selector = make_configured_selector(config)
        self.held_back = HeldBack(mprm.guard_share, mprm.guard_capacity, derive_seed(config.seed, "guard"))
        self.buffer = StreamingBuffer(config.selection, derive_seed(config.seed, "buffer"))

    @property
    def looks_at_images(self) -> bool:
        """Whether the selector wants to know the entropy of the images' features."""
        return self._config.selection.selector in NEED_COMPLEXITY or getattr(self.selector, "looks_at_images", False)

    @property
    def looks_at_scores(self) -> bool:
        """Whether the selector may want the MPRM's scores; one of the user's may."""
        name = self._config.selection.selector
        return name in NEED_STEP_SCORES or name not in SELECTORS

    @property
    def _selector_name(self) -> str:
        return f"selection.selector {self._config.selection.selector}"

    def offer(
        self,
        step: int | Literal["corpus"],
        annotated: Sequence[Annotated],
        scores: Sequence[StepScores] | None,
        entropy: np.ndarray | None,
        chance: np.ndarray | None = None,
    ) -> Offer:
        """Show what was labelled.

        Args:
            step: The policy step, counted from 0, or that it is a whole corpus: the seed of what is chosen at random.
            annotated: The labelled rollouts.
            scores: The MPRM's of each, for selectors that look at them.
            entropy: Of the images of each (A,), likewise.
            chance: `selection.candidates.Candidates.chance` of each (A,), likewise.

        Raises:
            UsersCodeError: A selector of the user's failed.
        """
        candidates, informative = self._judged(step, annotated, scores, entropy, chance)
        others = self.held_back.split(annotated)
        change = self._keep([annotated[place] for place in others], informative[others])
        buffer = self.buffer
        return Offer(
            candidates, informative, buffer.seen, buffer.kept(), buffer.kept_scores(), buffer.statistics() | change
        )

    def keep_corpus(
        self,
        number: int,
        annotated: Sequence[Annotated],
        scores: Sequence[StepScores] | None,
        entropy: np.ndarray | None,
    ) -> None:
        """Show the buffer what was labelled before the run; the guard, which judges within groups, sees none of it.

        Args:
            number: Of the batch.
            annotated, scores, entropy: See `offer`.

        Raises:
            UsersCodeError: A selector of the user's failed.
        """
        _, informative = self._judged(f"corpus {number}", annotated, scores, entropy)
        self._keep(annotated, informative)

    def _keep(self, annotated: Sequence[Annotated], informative: np.ndarray) -> dict[str, float]:
        try:
            return self.buffer.offer(annotated, informative)
        except ValueError as error:
            raise UsersCodeError(f"{self._selector_name} failed: {error}") from None

    def _judged(
        self,
        seed: int | str,
        annotated: Sequence[Annotated],
        scores: Sequence[StepScores] | None,
        entropy: np.ndarray | None,
        chance: np.ndarray | None = None,
    ) -> tuple[Candidates, np.ndarray]:
        """What the selector sees, and how informative it finds each (A,)."""
        generator = np.random.default_rng(derive_seed(self._config.seed, "select", seed))
        candidates = gather_candidates(annotated, scores, entropy, generator, chance)
        if not annotated:  # a selector of the user's need not know what to say of nothing
            return candidates, np.zeros(0)
        return candidates, apply_selector(self._selector_name, self.selector, candidates)

    def begin(self, mprm: Starts, step: int) -> Pending[dict[str, float]]:
        """Begin the lesson that is due after policy step ``step``, counted from 0; nothing, where none is."""
        if not (self._config.mprm.learns_after(step + 1) and len(self.buffer)):
            return Ready({})
        return mprm.start("update", *self.lesson(self.buffer.draw(self._config.mprm.lesson_size)))

    def lesson(self, samples: list[Annotated]) -> tuple[list[Annotated], list[Annotated], float | None]:
        """What `rewards.process_model.mprm.MPRM.update` takes: rollouts to learn from, and what the guard needs."""
        return samples, self.held_back.entries(), self._config.mprm.guard_margin

    def save(self, folder: Path) -> None:
        """Write what a checkpoint needs."""
        save_buffer(self.buffer.state(), folder / BUFFER_FILE)
        self.held_back.save(folder / HELD_BACK_FILE)

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            ValueError: A file is missing, damaged, or something else.
        """
        state = load_buffer(folder / BUFFER_FILE)
        try:
            self.buffer.restore(state)
        except (KeyError, TypeError, ValueError, OverflowError) as error:  # of counters and generator
            raise ValueError(f"{folder / BUFFER_FILE}: holds no buffer: {type(error).__name__} {error}") from None
        self.held_back.load(folder / HELD_BACK_FILE)


def make_configured_selector(config: Config) -> Selector:
    """The selector that the configuration names; a class of the user's is made without arguments.

    Raises:
        ConfigError: There is no such selector, or the class makes none.
    """
    selection = config.selection
    builtin = {name: make_selector(name, selection) for name in SELECTORS}
    return resolve_made("selection.selector", selection.selector, builtin)
