"""Other budgets on recorded continuations: what a budget would have asked for is answered from the record, in order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from rewards.annotation.annotator import Annotation, Continuation
from rewards.models.encoding import Encoder
from rewards.records import Annotated, StepScores
from rewards.seeds import derive_seed
from rl.annotating.labelling import make_configured_budget
from rl.config import Config
from rl.errors import ConfigError
from rl.instruments.replay.stream import RecordedRollout
from rl.tasks.making import make_verifier


@dataclass(frozen=True)
class Labelled:
    """The labelled rollouts of a policy step.

    Attributes:
        rollouts: The A rollouts, in stream order.
        entries: They, with their counts (A).
        tokens: What their continuations took, those of rollouts of one group that begin alike once.
    """

    rollouts: list[RecordedRollout]
    entries: list[Annotated]
    tokens: int


def recorded_labels(rollouts: Sequence[RecordedRollout]) -> Labelled:
    """The labels as they were recorded."""
    labelled = [rollout for rollout in rollouts if rollout.annotated]
    tokens: dict[Hashable, int] = {}
    for recorded in labelled:
        rollout = recorded.entry.rollout
        for span, samples in zip(rollout.steps, recorded.continuations, strict=True):
            prefix = rollout.prompt_id, rollout.group, rollout.token_ids[: span.end]
            tokens[prefix] = sum(sample.tokens for sample in samples)
    return Labelled(labelled, [recorded.entry for recorded in labelled], sum(tokens.values()))


class Relabelling:
    """Labels rollouts anew under the budget of ``annotation``, each policy step for as many continuation tokens.

    A step's rollouts are looked at in random order, as many of them as the tokens pay for: the most whose cost is
    within the allowance, found by bisection. What is left goes to the next step. So all budgets spend the same, evenly
    over the stream, and differ in how many rollouts they look at and in how well they know each.

    Args:
        config: With ``annotation``, ``replay.tokens`` and the seed, which decides the order of each step.
        encoder: Of the policy.
        steps: Policy steps to spread the tokens over.
    """

    def __init__(self, config: Config, encoder: Encoder, steps: int) -> None:
        self._config, self._decode = config, encoder.decode
        self._budget, self._verifier = make_configured_budget(config), make_verifier(config)
        self._steps, self._allowance = steps, config.replay.tokens / steps
        self._left, self._spent = 0.0, 0

    def label(self, step: int, rollouts: Sequence[RecordedRollout], scores: Sequence[StepScores] | None) -> Labelled:
        """The rollouts of a policy step that the tokens pay for, labelled.

        Args:
            step: The policy step.
            rollouts: All of its rollouts.
            scores: The replay's MPRM's scores of each, for a triage that looks at them.

        Raises:
            ConfigError: The budget asks for more continuations than were recorded; or, after the last policy step, it
                could not spend its tokens.
        """
        places = [place for place, rollout in enumerate(rollouts) if rollout.annotated and rollout.entry.rollout.steps]
        order = np.random.default_rng(derive_seed(self._config.seed, "annotate", step)).permutation(places).tolist()
        self._left += self._allowance

        def look_at(number: int) -> Labelled:
            return self._label(rollouts, sorted(order[:number]), scores)

        affordable = bisect_right(range(1, len(order) + 1), self._left, key=lambda number: look_at(number).tokens)
        labelled = look_at(affordable)
        self._left -= labelled.tokens
        self._spent += labelled.tokens
        self._steps -= 1
        if not self._steps and self._left > self._allowance:
            raise ConfigError(
                f"replay.tokens is {self._config.replay.tokens}: all that annotation.budget "
                f"{self._config.annotation.budget!r} asks for on this stream are {self._spent}; allowed is at most "
                "that, or budgets would not spend the same"
            )
        return labelled

    def _label(
        self, rollouts: Sequence[RecordedRollout], places: Sequence[int], scores: Sequence[StepScores] | None
    ) -> Labelled:
        """These rollouts of a policy step, labelled; the others' outcomes are evidence."""
        chosen = [rollouts[place] for place in places]
        others = [rollout.entry.rollout for place, rollout in enumerate(rollouts) if place not in set(places)]
        annotation = Annotation(
            [rollout.entry.rollout for rollout in chosen],
            [rollout.entry.prompt for rollout in chosen],
            self._budget,
            self._decode,
            self._verifier,
            self._config.seed,
            scores=[scores[place] for place in places] if scores is not None else None,
            siblings=others,
        )
        asked: dict[tuple[int, int], int] = {}
        while requests := annotation.requests():
            answers = []
            for request, (place, step) in zip(requests, annotation.places(), strict=True):
                before = asked.get((place, step), 0)
                answers.append(self._answer(chosen[place], step, before, request.n))
                asked[place, step] = before + request.n
            annotation.count(answers)
        entries = [
            Annotated(rollout.entry.prompt, rollout.entry.rollout, counts)
            for rollout, counts in zip(chosen, annotation.counts(), strict=True)
        ]
        return Labelled(chosen, entries, annotation.cost().tokens)

    @staticmethod
    def _answer(rollout: RecordedRollout, step: int, before: int, wanted: int) -> Sequence[Continuation]:
        recorded = rollout.continuations[step]
        if len(recorded) < before + wanted:
            raise ConfigError(
                f"replay.tokens: the budget asks for {before + wanted} continuations of a step of which the stream has "
                f"{len(recorded)}; allowed is at most that in annotation.continuations, or a stream recorded with "
                f"annotation.budget fixed and annotation.continuations {before + wanted} or more"
            )
        return recorded[before : before + wanted]
