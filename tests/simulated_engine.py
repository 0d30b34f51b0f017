"""A world with known success rates: an engine that answers requests as a real one does, and what to try it on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rewards.annotation.annotator import Annotation
from rewards.annotation.budgets import Budget
from rewards.records import Completion, Prompt, Rollout, SamplingRequest
from rewards.verification.verifiers import exact
from tests.builders import a_prompt

RIGHT, WRONG = (1, 2), (1, 3)
WORDS = {1: "Answer:", 2: " 4", 3: " 5"}


def decode(token_ids: Sequence[int]) -> str:
    """Tokens as words; what is no word of an answer stands for itself."""
    return "".join(WORDS.get(token, f"<{token}>") for token in token_ids)


class SimulatedEngine:
    """Continuations that are right with a rate that the test gives, and cut off with another; the seed decides which.

    Attributes:
        rounds: All requests so far, call by call.
    """

    def __init__(self, rate: Callable[[SamplingRequest], float], truncated: float = 0.0, version: int = 0) -> None:
        self._rate, self._truncated, self._version = rate, truncated, version
        self.rounds: list[list[SamplingRequest]] = []

    def sample(self, requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        """See `rl.engines.engine.Engine.sample`."""
        self.rounds.append(list(requests))
        return [self._answer(request) for request in requests]

    def _answer(self, request: SamplingRequest) -> list[Completion]:
        generator = np.random.default_rng(request.seed)
        right = generator.random(request.n) < self._rate(request)
        cut = generator.random(request.n) < self._truncated
        return [
            Completion(RIGHT if r else WRONG, (-0.5, -0.5), "length" if c else "stop", self._version)
            for r, c in zip(right, cut, strict=True)
        ]


def annotation_of(
    rollouts: Sequence[Rollout],
    budget: Budget,
    prompts: Sequence[Prompt] | None = None,
    seed: int = 0,
    siblings: Sequence[Rollout] = (),
) -> Annotation:
    """The rollouts, about to be labelled; their prompts are made up unless they are given."""
    owners = [a_prompt(rollout.prompt_id) for rollout in rollouts] if prompts is None else prompts
    return Annotation(rollouts, owners, budget, decode, exact, seed, siblings=siblings)


def found(annotation: Annotation) -> list[tuple[list[float], list[float]]]:
    """Right and sampled counts of each rollout's steps."""
    return [(counts.correct.tolist(), counts.sampled.tolist()) for counts in annotation.counts()]


def finish(annotation: Annotation, engine: SimulatedEngine) -> Annotation:
    """Label to the end; a budget that would never end fails the test instead."""
    for _ in range(1000):
        requests = annotation.requests()
        if not requests:
            return annotation
        annotation.receive(engine.sample(requests))
    raise AssertionError("1,000 rounds and still not done")
