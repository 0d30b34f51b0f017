"""Monte-Carlo labels for a share of a policy step's rollouts, under way while other things happen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import msgspec
import numpy as np

from rewards.annotation.annotator import Annotation, Continuation, Continued
from rewards.annotation.budgets import Budget, make_budget
from rewards.annotation.judge import Judge, Judgement
from rewards.annotation.predicted_bis import predicted_balanced_information
from rewards.records import Annotated, Completion, Prompt, Rollout, StepCounts, StepScores
from rewards.seeds import derive_seed
from rewards.verification.verifiers import Verifier
from rl.annotating.judging import join_verdicts, judgement_again, judgement_state
from rl.config import Config
from rl.monitoring.report import Delivery, Labels
from rl.rollouts.stream import Engines
from rl.workers.pending import Pending, Ready, Starts
from selection.rows import Whole

Answers = list[list[Completion]]
"""To one round of requests."""
Places = list[tuple[int, int]]
"""What one round goes on from: rollouts of those that are labelled, and steps of them."""
Verdicts = list[list[bool | None]]
"""On those."""


@dataclass(frozen=True)
class Labeller:
    """Labels the steps of a random share of each policy step's rollouts.

    With `annotation.delay` N the labels of a policy step are there N steps later. Until then its continuations take one
    round a step, when `advance` says so, each asked of the weights of that time, which every continuation names. A
    checkpoint holds the rounds so far, and a resumed run goes through them again and on from there: nothing is finished
    early for it, so that a run is the same however often it is saved.

    Attributes:
        config: The experiment.
        budget: How many continuations a step gets.
        judge: Gives its verdicts beside the continuations; None in a run without one.
        decode: From completion tokens to text.
        verifier: Judges answers, and so continuations.
        engines: Sample the continuations.
        mprm: Tells the entropy of images.
        looks_at_images: Whether whoever selects among the labelled rollouts wants to know that.
        tell: Is told how often continuations of a prompt's first steps came out right and wrong, and the oldest policy
            version that sampled them: whoever chooses prompts learns from it.
        under_way: The labellings that are not due yet, oldest first.
    """

    config: Config
    budget: Budget
    judge: Judge | None
    decode: Callable[[Sequence[int]], str]
    verifier: Verifier
    engines: Engines
    mprm: Starts
    looks_at_images: bool
    tell: Callable[[Prompt, int, int, int], None]
    under_way: deque[Labelling] = field(default_factory=deque)

    def begin(self, step: int, batch: Delivery, scores: Sequence[StepScores]) -> Labelling:
        """Begin to label rollouts of policy step ``step``, counted from 0: what it trains on, and the MPRM's scores of
        each of its rollouts."""
        chosen = _choose(self.config, step, batch.rollouts)
        prompts, rollouts = [batch.prompts[place] for place in chosen], [batch.rollouts[place] for place in chosen]
        verdicts = self.judge.start(prompts, rollouts) if self.judge else None
        entropy = self.mprm.start("image_entropy", prompts) if self.looks_at_images else None
        self.under_way.append(Labelling(self, step, batch, scores, chosen, verdicts, entropy))
        return self.under_way[-1]

    def advance(self) -> None:
        """Ask for the next round of every labelling; waits for those that are under way."""
        for labelling in self.under_way:
            labelling.advance()

    def due(self, step: int) -> Labelling:
        """The labelling of the policy step `annotation.delay` before ``step``, after which nobody asks for it again; of
        no rollouts, where there was no such step."""
        if len(self.under_way) > self.config.annotation.delay:
            return self.under_way.popleft()
        return Labelling(self, step, Delivery([], [], {}, 0), [], [], None, Ready(np.zeros(0)))

    def rest(self) -> Iterator[Labelling]:
        """At the end of a run, the labellings that would have been due later, oldest first."""
        while self.under_way:
            yield self.under_way.popleft()

    def state(self) -> dict[str, Any] | None:
        """What `restore` needs of the judge, plain JSON; None without one."""
        return self.judge.state() if self.judge is not None else None

    def restore(
        self,
        state: dict[str, Any] | None,
        labellings: Sequence[dict[str, Any]],
        again: Callable[[Sequence[dict[str, Any]]], Delivery],
    ) -> None:
        """Go on from a `state`, as far as there was a judge then and is one now, and with labellings under way.

        Args:
            state: Of the judge.
            labellings: `Labelling.state` of each.
            again: See `rl.rollouts.stream.RolloutStream.again`.
        """
        if state is not None and self.judge is not None:
            self.judge.restore(state)
        self.under_way.extend(Labelling.restore(self, entry, again) for entry in labellings)


class Labelling:
    """Continues some rollouts from each of their steps, and gives what that says of the steps.

    Making one asks the engines for the first round of continuations; `advance` and `finish` wait.

    Args:
        labeller: With what.
        step, batch, scores: See `Labeller.begin`.
        chosen: The places of the rollouts that are labelled.
        verdicts: What the judge will say of them, where there is one.
        entropy: Of their images, where somebody wants to know.
        answered: The engines' answers to the first rounds, where they are known already.
        asked: What those are answers to: rollout and step that each request of a round went on from.
        judged: What the verifier said of those, as far as it was asked: it need not say the same again.

    Raises:
        ValueError: They are answers to other requests than its own.

    Attributes:
        scores: The MPRM's scores of the chosen rollouts, in order.
    """

    def __init__(
        self,
        labeller: Labeller,
        step: int,
        batch: Delivery,
        scores: Sequence[StepScores],
        chosen: Sequence[int],
        verdicts: Future[Judgement] | None,
        entropy: Pending[np.ndarray] | None,
        answered: Sequence[Answers] = (),
        asked: Sequence[Places] = (),
        judged: Sequence[Verdicts] = (),
    ) -> None:
        self._labeller, self._step, self._batch, self._all_scores, self._chosen = labeller, step, batch, scores, chosen
        self._rollouts = [batch.rollouts[place] for place in chosen]
        self._believed = None if batch.believed is None else batch.believed[list(chosen)]
        self._prompts = [batch.prompts[place] for place in chosen]
        self.scores = [scores[place] for place in chosen]
        self._verdicts, self._entropy = verdicts, entropy
        config, others = labeller.config, set(range(len(batch.rollouts))) - set(chosen)
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
            siblings=[batch.rollouts[place] for place in sorted(others)],
            believed=self._believed,
        )
        self._known, self._rounds = deque(answered), list[Pending[Answers]]()
        self._known_places, self._asked = deque(asked), list[Places]()
        self._known_verdicts, self._judged = deque(judged), list[Verdicts]()
        self._ask()
        while self._known:
            self.advance()

    def advance(self) -> bool:
        """Wait for the round that is under way, and ask for the next; gives False where all have been received."""
        if self._is_finished:
            return False
        answers = self._rounds[-1].result()
        if self._known_verdicts:
            said = self._known_verdicts.popleft()
            pairs = [zip(answer, verdicts, strict=True) for answer, verdicts in zip(answers, said, strict=True)]
            self._annotation.count([[Continuation.of(*pair) for pair in answer] for answer in pairs])
        else:
            said = self._annotation.receive(answers)
        self._judged.append(said)
        self._ask()
        return True

    def finish(self) -> None:
        """Wait for all rounds of continuations."""
        while self.advance():
            pass

    def state(self) -> dict[str, Any]:
        """Plain JSON for a checkpoint; waits for the continuations under way, since no later weights could sample them
        again, and for judge and entropy."""
        entropy = self.entropy()
        return {
            "step": self._step,
            "groups": [group.state() for group in self._batch.groups],
            "scores": [
                [None if array is None else array.tolist() for array in (entry.scores, entry.concentration)]
                for entry in self._all_scores
            ],
            "mprm_version": self._all_scores[0].mprm_version,
            "chosen": list(self._chosen),
            "answers": [[[asdict(c) for c in answer] for answer in round.result()] for round in self._rounds],
            "asked": self._asked,
            "judged": [*self._judged, *self._known_verdicts],
            "verdicts": judgement_state(self._labeller.config, self._verdicts),
            "entropy": None if entropy is None else entropy.tolist(),
        }

    @classmethod
    def restore(
        cls, labeller: Labeller, state: dict[str, Any], again: Callable[[Sequence[dict[str, Any]]], Delivery]
    ) -> Labelling:
        """What `state` described; see `Labeller.restore`.

        Raises:
            ConfigError: There is another prompt in a place now.
            ValueError, LookupError, TypeError, AttributeError: No labelling has such a state.
        """
        kept = msgspec.convert(state, _Kept)
        scores = [
            StepScores(np.array(said), kept.mprm_version, None if sure is None else np.array(sure))
            for said, sure in kept.scores
        ]
        batch, verdicts = again(kept.groups), judgement_again(kept.verdicts)
        entropy: Pending[np.ndarray] | None = None if kept.entropy is None else Ready(np.array(kept.entropy))
        if entropy is None and labeller.looks_at_images:  # as the selector from before did not
            entropy = labeller.mprm.start("image_entropy", [batch.prompts[place] for place in kept.chosen])
        return cls(
            *(labeller, kept.step, batch, scores, kept.chosen, verdicts, entropy),
            answered=kept.answers,
            asked=kept.asked,
            judged=kept.judged,
        )

    def _ask(self) -> None:
        requests = self._annotation.requests()
        self._is_finished = not requests
        known, places = self._known, self._annotation.places()
        if known and (
            not requests
            or [len(answer) for answer in known[0]] != [request.n for request in requests]
            or (self._known_places and self._known_places.popleft() != places)
        ):
            raise ValueError("a labelling has answers to other requests than its own")
        if requests:
            self._asked.append(places)
            self._rounds.append(Ready(known.popleft()) if known else self._labeller.engines.sample(requests))

    def by_rollout(self) -> list[StepCounts | None]:
        """What was counted, one entry for each rollout of the step, None for those that were not chosen; waits for all
        rounds."""
        counted: list[StepCounts | None] = [None] * len(self._batch.rollouts)
        self.finish()
        for place, counts in zip(self._chosen, self._annotation.counts(), strict=True):
            counted[place] = counts
        return counted

    def continued(self) -> list[Continued]:
        """The prefixes that were continued, of all rollouts of the step; waits for all rounds."""
        self.finish()
        return [replace(entry, rollout=self._chosen[entry.rollout]) for entry in self._annotation.continued()]

    def labels(self, now: int, seconds: float, say: Callable[[str], None]) -> Labels:
        """What is known of the chosen rollouts in the end, with the judge's verdicts where there are any.

        Args:
            now: The policy step that gets the labels, counted from 0.
            seconds: How long the loop waited for the continuations.
            say: Is told of a judge that says nothing.
        """
        self.finish()
        self._tell_of_first_steps()
        counts, judge = join_verdicts(
            self._labeller.config, self._rollouts, self._annotation.counts(), self._verdicts, say
        )
        return Labels(
            step=self._step,
            batch=self._batch,
            scores=self._all_scores,
            places=self._chosen,
            annotated=self._annotated(counts),
            continuations=self._annotation.continuations(),
            cost=self._annotation.cost(seconds),
            metrics=judge | (self._lateness(now) if self._labeller.config.annotation.delay else {}),
        )

    def _tell_of_first_steps(self) -> None:
        """What was drawn, a first step once: not what counts, for outcomes may be in that, and what a judge says. A
        search goes on from first steps where later ones have failed, which is no fair sample of them."""
        if self._labeller.budget.first_error == "search":
            return
        drawn: dict[tuple[str, tuple[int, ...]], tuple[Prompt, list[Continuation]]] = {}
        for entry in self._annotation.continued():
            prompt, rollout = self._prompts[entry.rollout], self._rollouts[entry.rollout]
            if entry.tokens == rollout.steps[0].end:
                drawn.setdefault((prompt.id, rollout.token_ids[: entry.tokens]), (prompt, []))[1].extend(
                    entry.continuations
                )
        for prompt, continuations in drawn.values():
            verdicts = [continuation.right for continuation in continuations]
            oldest = min(continuation.policy_version for continuation in continuations)
            self._labeller.tell(prompt, verdicts.count(True), verdicts.count(False), oldest)

    def _lateness(self, now: int) -> dict[str, float]:
        """Metrics of labels that may come late, by their full names; none without a label."""
        versions = [c.policy_version for entry in self._annotation.continued() for c in entry.continuations]
        if not versions:
            return {}
        newer = np.mean(np.array(versions) > min(versions))
        return {"annotation/age": float(now - self._step), "annotation/newer_weights": float(newer)}

    def _annotated(self, counts: Sequence[StepCounts]) -> list[Annotated]:
        return [Annotated(*entry) for entry in zip(self._prompts, self._rollouts, counts, strict=True)]

    @property
    def chance(self) -> np.ndarray | None:
        """`selection.candidates.Candidates.chance` of the chosen rollouts."""
        return None if self._believed is None else self._believed[:, 0] / self._believed.sum(1)

    def entropy(self) -> np.ndarray | None:
        """Of the images of each chosen rollout, in [0, 1], where somebody wants to know; waits."""
        return self._entropy.result() if self._entropy else None


@dataclass(frozen=True)
class _Kept:
    """A labelling's state."""

    step: Whole
    groups: list[dict[str, Any]]
    scores: list[tuple[list[float], list[float] | None]]
    mprm_version: Whole
    chosen: list[Whole]
    answers: list[Answers]
    verdicts: dict[str, Any] | None
    entropy: list[float] | None
    asked: list[Places] = field(default_factory=list)
    judged: list[Verdicts] = field(default_factory=list)


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
