"""Monte-Carlo labels for a share of a policy step's rollouts, under way while other things happen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from rewards.annotation.annotator import Annotation, Continued
from rewards.annotation.budgets import Budget, make_budget
from rewards.annotation.judge import Judge
from rewards.annotation.predicted_bis import predicted_balanced_information
from rewards.records import Annotated, Prompt, Rollout, StepCounts, StepScores
from rewards.seeds import derive_seed
from rewards.verification.verifiers import Verifier
from rl.annotating.judging import join_verdicts
from rl.config import Config
from rl.monitoring.report import Labels
from rl.rollouts.stream import Engines
from rl.workers.pending import Starts


@dataclass(frozen=True)
class Labeller:
    """Labels the steps of a random share of each policy step's rollouts.

    Attributes:
        config: The experiment.
        budget: How many continuations a step gets.
        judge: Gives its verdicts beside the continuations; None in a run without one.
        decode: From completion tokens to text.
        verifier: Judges answers, and so continuations.
        engines: Sample the continuations.
        mprm: Tells the entropy of images.
        looks_at_images: Whether whoever selects among the labelled rollouts wants to know that.
        tell: Is told of the rollouts that were labelled, with what was counted: whoever chooses prompts learns from it.
    """

    config: Config
    budget: Budget
    judge: Judge | None
    decode: Callable[[Sequence[int]], str]
    verifier: Verifier
    engines: Engines
    mprm: Starts
    looks_at_images: bool
    tell: Callable[[Sequence[Annotated]], None]

    def begin(
        self, step: int, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], scores: Sequence[StepScores]
    ) -> Labelling:
        """Begin to label rollouts of policy step ``step``, counted from 0: all of its rollouts, the prompt of each, and
        the MPRM's scores of each."""
        return Labelling(self, step, prompts, rollouts, scores)

    def state(self) -> dict[str, Any] | None:
        """What `restore` needs of the judge, plain JSON; None without one."""
        return self.judge.state() if self.judge is not None else None

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from a `state`, as far as there was a judge then and is one now."""
        if state is not None and self.judge is not None:
            self.judge.restore(state)


class Labelling:
    """Continues some rollouts from each of their steps, and gives what that says of the steps.

    Making one asks the engines for the first round of continuations, the judge for its verdicts, and the MPRM for the
    entropy of images, where the configuration has them; `finish` waits.

    Args:
        labeller: With what.
        step, prompts, rollouts, scores: See `Labeller.begin`.

    Attributes:
        scores: The MPRM's scores of the chosen rollouts: a random share of those that have steps, in order.
    """

    def __init__(
        self,
        labeller: Labeller,
        step: int,
        prompts: Sequence[Prompt],
        rollouts: Sequence[Rollout],
        scores: Sequence[StepScores],
    ) -> None:
        self._labeller, self._all = labeller, len(rollouts)
        config, judge, mprm = labeller.config, labeller.judge, labeller.mprm
        self._chosen = _choose(config, step, rollouts)
        self._rollouts = [rollouts[place] for place in self._chosen]
        self.scores = [scores[place] for place in self._chosen]
        self._prompts = [prompts[place] for place in self._chosen]
        chosen = set(self._chosen)
        by_mprm = config.annotation.budget == "triage" and config.annotation.triage_by == "mprm"
        self._annotation = Annotation(
            self._rollouts,
            self._prompts,
            labeller.budget,
            labeller.decode,
            labeller.verifier,
            config.seed,
            scores=self.scores if by_mprm else None,
            # The others of their groups are evidence by their outcomes.
            siblings=[rollout for place, rollout in enumerate(rollouts) if place not in chosen],
        )
        self._continuations = labeller.engines.sample(self._annotation.requests())
        self._verdicts = judge.start(self._prompts, self._rollouts) if judge else None
        self._entropy = mprm.start("image_entropy", self._prompts) if labeller.looks_at_images else None
        self._counts: list[StepCounts] | None = None

    def finish(self) -> list[StepCounts]:
        """Wait for all rounds of continuations; what was counted, one entry for each chosen rollout."""
        if self._counts is None:
            self._annotation.receive(self._continuations.result())
            while requests := self._annotation.requests():
                self._annotation.receive(self._labeller.engines.sample(requests).result())
            self._counts = self._annotation.counts()
        return self._counts

    def by_rollout(self) -> list[StepCounts | None]:
        """What `finish` counted, one entry for each rollout of the step: None for those that were not chosen."""
        counted: list[StepCounts | None] = [None] * self._all
        for place, counts in zip(self._chosen, self.finish(), strict=True):
            counted[place] = counts
        return counted

    def continued(self) -> list[Continued]:
        """The prefixes that were continued, of all rollouts of the step; waits for all rounds."""
        self.finish()
        return [replace(entry, rollout=self._chosen[entry.rollout]) for entry in self._annotation.continued()]

    def labels(self, seconds: float, say: Callable[[str], None]) -> Labels:
        """What is known of the chosen rollouts in the end, with the judge's verdicts where there are any.

        Args:
            seconds: How long the loop waited for the continuations.
            say: Is told of a judge that says nothing.
        """
        # What a judge says of a step is not how often answers come out right.
        self._labeller.tell(self._annotated(self.finish()))
        counts, judge = join_verdicts(self._labeller.config, self._rollouts, self.finish(), self._verdicts, say)
        return Labels(
            places=self._chosen,
            annotated=self._annotated(counts),
            continuations=self._annotation.continuations(),
            cost=self._annotation.cost(seconds),
            judge=judge,
        )

    def _annotated(self, counts: Sequence[StepCounts]) -> list[Annotated]:
        return [Annotated(*entry) for entry in zip(self._prompts, self._rollouts, counts, strict=True)]

    def entropy(self) -> np.ndarray | None:
        """Of the images of each chosen rollout, in [0, 1], where somebody wants to know; waits."""
        return self._entropy.result() if self._entropy else None


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
