"""What the engines of one policy step have to do, drawn at random: answers have different lengths, and one engine ends
after another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rewards.seeds import derive_seed
from rl.config import Config
from rl.instruments.planning.stage_seconds import WIDTH, StageSeconds, with_lengths

SPREAD = 0.5  # standard deviation of an answer's length, as a share of the mean
DRAWS = 32


class Lengths(NamedTuple):
    """Tokens that each prompt's answers take (P,): the longest of them, and all together."""

    longest: np.ndarray
    total: np.ndarray


class EngineWork:
    """Seconds of each engine for a policy step's rollouts and rounds of continuations.

    An engine with answers of n_1, n_2, … tokens takes a (max n + sum n / `WIDTH`) seconds; a is such that as many
    engines as were measured take, in the mean, what was measured. Prompts are dealt out to the engines in turn; with
    more engines than prompts some have none.

    Args:
        config: Prompts, samples, annotation, length limits.
        seconds: Stage times, as measured.
        measured_on: Number of engines then.
    """

    def __init__(self, config: Config, seconds: StageSeconds, measured_on: int) -> None:
        self._config, self._seconds = config, with_lengths(seconds, config)
        self._rounds = max(1, round(seconds.rounds))
        generator = np.random.default_rng(derive_seed(config.seed, "plan"))
        self._drawn: list[tuple[Lengths, list[Lengths]]] = []
        for _ in range(DRAWS):
            written = self._rollouts(generator)
            self._drawn.append((written, [self._continuations(written, generator) for _ in range(self._rounds)]))
        rollouts, continuations = self.passes(measured_on)
        self._rollout_scale = seconds.rollout / rollouts
        self._round_scale = seconds.annotate / max(continuations, 1e-9)

    def passes(self, engines: int) -> tuple[float, float]:
        """Passes of the busiest of so many engines in a policy step, in the mean: for rollouts, and for all rounds of
        continuations."""
        rollouts = [_passes(written, engines).max() for written, _ in self._drawn]
        continued = [_passes(lengths, engines).max() for _, rounds in self._drawn for lengths in rounds]
        return float(np.mean(rollouts)), self._rounds * float(np.mean(continued))

    def step(self, step: int, engines: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Seconds of each of so many engines (E,) in a policy step: for rollouts, and for every round of continuations;
        after `DRAWS` steps they come again."""
        written, rounds = self._drawn[step % DRAWS]
        return (
            self._rollout_scale * _passes(written, engines),
            [self._round_scale * _passes(lengths, engines) for lengths in rounds],
        )

    def _rollouts(self, generator: np.random.Generator) -> Lengths:
        learner, limit = self._config.learner, self._config.engine.max_completion_tokens
        sigma = np.sqrt(np.log1p(SPREAD**2))
        mean = np.log(self._seconds.tokens) - sigma**2 / 2
        drawn = generator.lognormal(mean, sigma, size=(learner.prompts, learner.samples)).clip(1, limit)
        # A rollout that is cut into segments goes on in the next round, and holds nobody up in this one.
        longest = drawn.max(axis=1).clip(max=self._config.engine.segment_tokens)
        return Lengths(longest, drawn.sum(axis=1))

    def _continuations(self, written: Lengths, generator: np.random.Generator) -> Lengths:
        """Of one round: some rollouts of each prompt, from each of their steps; half a rollout long in the mean."""
        annotation, samples = self._config.annotation, self._config.learner.samples
        labelled = generator.binomial(samples, annotation.share, size=written.total.shape)
        each = self._seconds.steps * annotation.continuations / self._rounds
        total = labelled * each * written.total / samples / 2
        return Lengths(np.where(labelled > 0, written.longest, 0.0), total)


def _passes(lengths: Lengths, engines: int) -> np.ndarray:
    """Passes of each engine (E,), those of a full batch counting for more."""
    missing = -len(lengths.longest) % engines
    longest, total = (np.pad(values, (0, missing)).reshape(-1, engines) for values in lengths)
    return longest.max(axis=0) + total.sum(axis=0) / WIDTH
