"""Monte-Carlo labels for a share of a policy step's rollouts, under way while other things happen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rewards.annotation.annotator import Annotation, Continuation, LabelCost
from rewards.annotation.budgets import Budget, make_budget
from rewards.annotation.predicted_bis import predicted_balanced_information
from rewards.records import Annotated, Prompt, Rollout, StepCounts, StepScores
from rewards.seeds import derive_seed
from rl.annotating.judging import join_verdicts
from rl.config import Config
from selection.candidates import Candidates, gather_candidates

if TYPE_CHECKING:
    from rl.parts import Parts


class Labelling:
    """Continues some rollouts from each of their steps, and gives what that says of the steps.

    Making one asks the engines for the first round of continuations, the judge for its verdicts, and the MPRM for the
    entropy of images, where the configuration has them; `finish` waits.

    Args:
        config, parts: The experiment.
        step: The policy step.
        prompts, rollouts, scores: All of the step's rollouts, the prompt of each, and the MPRM's scores of each.

    Attributes:
        chosen: The places of the rollouts to label: a random share of those that have steps, in order.
        rollouts: Those rollouts.
    """

    def __init__(
        self,
        config: Config,
        parts: Parts,
        step: int,
        prompts: Sequence[Prompt],
        rollouts: Sequence[Rollout],
        scores: Sequence[StepScores],
    ) -> None:
        self._config, self._parts, self._all = config, parts, len(rollouts)
        self._generator = np.random.default_rng(derive_seed(config.seed, "select", step))
        self.chosen = _choose(config, step, rollouts)
        self.rollouts = [rollouts[place] for place in self.chosen]
        self._prompts = [prompts[place] for place in self.chosen]
        self._scores = [scores[place] for place in self.chosen]
        chosen = set(self.chosen)
        by_mprm = config.annotation.budget == "triage" and config.annotation.triage_by == "mprm"
        self._annotation = Annotation(
            self.rollouts,
            self._prompts,
            parts.budget,
            parts.encoder.decode,
            parts.verifier,
            config.seed,
            scores=self._scores if by_mprm else None,
            # The others of their groups are evidence by their outcomes.
            siblings=[rollout for place, rollout in enumerate(rollouts) if place not in chosen],
        )
        self._continuations = parts.engines.sample(self._annotation.requests())
        self._verdicts = parts.judge.start(self._prompts, self.rollouts) if parts.judge else None
        self._entropy = parts.mprm.start("image_entropy", self._prompts) if parts.looks_at_images else None
        self._counts: list[StepCounts] | None = None

    def finish(self) -> list[StepCounts]:
        """Wait for all rounds of continuations; what was counted, one entry for each chosen rollout."""
        if self._counts is None:
            self._annotation.receive(self._continuations.result())
            while requests := self._annotation.requests():
                self._annotation.receive(self._parts.engines.sample(requests).result())
            self._counts = self._annotation.counts()
        return self._counts

    def by_rollout(self) -> list[StepCounts | None]:
        """What `finish` counted, one entry for each rollout of the step: None for those that were not chosen."""
        counted: list[StepCounts | None] = [None] * self._all
        for place, counts in zip(self.chosen, self.finish(), strict=True):
            counted[place] = counts
        return counted

    def continuations(self) -> list[list[list[Continuation]]]:
        """All continuations so far, of each step of each chosen rollout."""
        return self._annotation.continuations()

    def cost(self, seconds: float) -> LabelCost:
        """What it took; ``seconds`` is how long the loop waited."""
        return self._annotation.cost(seconds)

    def judged(self, say: Callable[[str], None]) -> tuple[list[Annotated], dict[str, float]]:
        """The labelled rollouts, with the judge's verdicts where there are any, and metrics of that."""
        counts, metrics = join_verdicts(self._config, self.rollouts, self.finish(), self._verdicts, say)
        return [Annotated(*entry) for entry in zip(self._prompts, self.rollouts, counts, strict=True)], metrics

    def candidates(self, annotated: Sequence[Annotated]) -> Candidates:
        """What selectors see of the labelled rollouts."""
        entropy = self._entropy.result() if self._entropy else None
        return gather_candidates(annotated, self._scores, entropy, self._generator)


def _choose(config: Config, step: int, rollouts: Sequence[Rollout]) -> list[int]:
    generator = np.random.default_rng(derive_seed(config.seed, "annotate", step))
    size = int(np.ceil(len(rollouts) * config.annotation.share))
    chosen = generator.choice(len(rollouts), size=size, replace=False).tolist()
    return sorted(place for place in chosen if rollouts[place].steps)


def make_configured_budget(config: Config) -> Budget:
    """What labelling the steps of a batch of rollouts may cost. A triage ranks them by their predicted BIS."""
    annotation = config.annotation
    return make_budget(
        annotation.budget,
        annotation.continuations,
        first_error=annotation.first_error,
        error=annotation.error,
        threshold=annotation.threshold,
        prior=annotation.prior,
        outcome_weight=annotation.outcome_weight,
        share_prefixes=annotation.share_prefixes,
        triage_policy=annotation.triage_policy,
        triage_ratio=annotation.triage_ratio,
        probe=annotation.probe,
        rank=partial(
            predicted_balanced_information, continuations=annotation.continuations, alpha=config.selection.alpha
        ),
    )
