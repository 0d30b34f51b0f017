"""Monte-Carlo step labels: how often does an answer come out right when continued from the end of each step?

VisualPRM's protocol (arXiv 2503.10291, section 3): continuations at the sampling temperature, each judged by the
verifier of the final answer. The score of a step is correct / sampled. How many continuations a step gets, and which
rollouts are labelled at all, is decided by a budget: `rewards.annotation.budgets`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from rewards.annotation.budgets import Budget, fixed
from rewards.annotation.evidence import Evidence
from rewards.annotation.first_error import labels, may_ask
from rewards.records import Completion, Prompt, Rollout, SamplingRequest, StepCounts, StepScores, StepSpan
from rewards.seeds import copies, derive_seed
from rewards.verification.verdict import Answer, verdict_of
from rewards.verification.verifiers import Verifier


@dataclass(frozen=True)
class LabelCost:
    """What labelling a batch took, and what ``fixed`` would have taken.

    Attributes:
        continuations: Sampled continuations.
        tokens: Their tokens.
        truncated: How many of them were cut off, and so left out.
        rounds: Times that the engines were asked.
        seconds: Time it took, as the caller measured it.
        fixed_continuations: N continuations of every step.
        fixed_tokens: An estimate of their tokens: N times the mean length of the step's continuations, or, where none
            was sampled, the length of the rest of the rollout, which is one such continuation.
    """

    continuations: int
    tokens: int
    truncated: int
    rounds: int
    seconds: float
    fixed_continuations: int
    fixed_tokens: float

    @property
    def saved_continuations(self) -> int:
        """Continuations that ``fixed`` would have taken on top."""
        return self.fixed_continuations - self.continuations

    @property
    def saved_tokens(self) -> float:
        """Tokens that ``fixed`` would have taken on top."""
        return self.fixed_tokens - self.tokens

    @property
    def saved_seconds(self) -> float:
        """Seconds that ``fixed`` would have taken on top, at as many tokens a second; NaN if there was no token."""
        return self.seconds * self.saved_tokens / self.tokens if self.tokens else float("nan")


@dataclass(frozen=True)
class Continuation:
    """One continuation from the end of a step, judged.

    Attributes:
        right: Whether it came out right; None if it was cut off, which says nothing.
        tokens: Its tokens.
        policy_version: The weights that sampled it.
        completion: What was sampled; None where a record has no more than the above.
    """

    right: bool | None
    tokens: int
    policy_version: int
    completion: Completion | None = None

    @staticmethod
    def of(completion: Completion, right: bool | None) -> Continuation:
        """What was sampled, with its verdict."""
        return Continuation(right, len(completion.token_ids), completion.policy_version, completion)


@dataclass(frozen=True)
class Continued:
    """A prefix that was continued.

    Attributes:
        rollout: The place in the batch of the first rollout that begins with it.
        tokens: How many it has.
        continuations: Its own, in the order in which they were asked for.
    """

    rollout: int
    tokens: int
    continuations: Sequence[Continuation]


class Annotation:
    """One batch of rollouts being labelled: it says what to sample next, and takes the answers.

        annotation = Annotation(rollouts, prompts, budget, decode, verifier, seed)
        while requests := annotation.requests():
            annotation.receive(engine.sample(requests))
        counts = annotation.counts()

    It waits for nothing, so the engines may do other work between two rounds. The seeds of samples depend on its own
    seed, the prompt, the group, the tokens of the prefix, how many rollouts before it begin alike, unless they share,
    and how many were asked for there before: not on who else is in the batch, nor on the number of engines.

    Args:
        rollouts: What to label.
        prompts: The prompt of each.
        budget: What it may cost, and what counts as evidence.
        decode: From completion tokens to text.
        verifier: Judges prefix and continuation together.
        seed: Of the continuations.
        scores: The MPRM's step scores of each rollout, for a triage that looks at them.
        siblings: Further rollouts of the same groups, which are not labelled; their outcomes are evidence too.
        believed: `rewards.annotation.evidence.Evidence.believed`, for a triage.
    """

    def __init__(
        self,
        rollouts: Sequence[Rollout],
        prompts: Sequence[Prompt],
        budget: Budget,
        decode: Callable[[Sequence[int]], str],
        verifier: Verifier,
        seed: int,
        scores: Sequence[StepScores] | None = None,
        siblings: Sequence[Rollout] = (),
        believed: np.ndarray | None = None,
    ) -> None:
        self._rollouts, self._budget, self._decode, self._verifier = list(rollouts), budget, decode, verifier
        self._seed = seed
        self._steps = [(r, p, span) for r, p in zip(rollouts, prompts, strict=True) for span in r.steps]
        # A node is what is sampled and counted: a step, or a prefix that several rollouts of a group have in common.
        places: dict[Hashable, int] = {}
        keys = [self._key(rollout, span, place) for place, (rollout, _, span) in enumerate(self._steps)]
        self._node = np.array([places.setdefault(key, len(places)) for key in keys], dtype=np.int64)
        self._first_step = np.unique(self._node, return_index=True)[1]
        first = [self._steps[step] for step in self._first_step]
        self._copy = copies(
            (prompt.id, rollout.group, rollout.token_ids[: span.end]) for rollout, prompt, span in first
        )
        self._asked, self._correct, self._sampled, self._tokens = np.zeros((4, len(places)), dtype=np.int64)
        self._drawn: list[list[Continuation]] = [[] for _ in places]
        self._passing_correct, self._passing = self._outcomes([*self._rollouts, *siblings], places)
        self._outcome = np.array([r.outcome if r.finish_reason == "stop" else np.nan for r in self._rollouts])
        self._group_correct, self._group_sampled = _group_outcomes(self._rollouts, siblings)
        self._step_scores = np.concatenate([entry.scores for entry in scores]) if scores else None
        self._believed = believed
        self._chosen: np.ndarray | None = None
        self._pending: list[tuple[int, SamplingRequest]] = []
        self._truncated = self._rounds = 0
        self._version: int | None = None

    @property
    def chosen(self) -> np.ndarray:
        """Which rollouts are labelled (B,): all of them, unless a triage chose; none before it has."""
        if self._budget.triage is None:
            return np.ones(len(self._rollouts), dtype=bool)
        return np.zeros(len(self._rollouts), dtype=bool) if self._chosen is None else self._chosen

    def requests(self) -> list[SamplingRequest]:
        """The next round for the whole batch; empty when all is done.

        In rollout and step order, so that each prefix extends the one before it and an engine's prefix cache hits.
        """
        more = np.zeros(len(self._asked), dtype=np.int64)
        np.maximum.at(more, self._node, self._more(self._evidence()))
        self._pending = [(node, self._request(node, int(more[node]))) for node in np.flatnonzero(more)]
        return [request for _, request in self._pending]

    def receive(self, completions: Sequence[Sequence[Completion]]) -> list[list[bool | None]]:
        """The engines' answers to the last `requests`, in their order; gives the verdict on each."""
        requests = [request for _, request in self._pending]
        judged = [
            [self._judged(request, sample) for sample in samples]
            for request, samples in zip(requests, completions, strict=True)
        ]
        self.count(judged)
        return [[continuation.right for continuation in samples] for samples in judged]

    def places(self) -> list[tuple[int, int]]:
        """Where each of the last `requests` goes on from: a rollout of the batch, and a step of it, both from 0."""
        evidence = self._evidence()
        steps = [self._first_step[node] for node, _ in self._pending]
        return [(int(evidence.rollout[step]), int(evidence.position[step])) for step in steps]

    def count(self, continuations: Sequence[Sequence[Continuation]]) -> None:
        """What `receive` does, for answers that are judged already.

        A continuation that was cut off says nothing about its step: it is left out of both counts.
        """
        for (node, request), samples in zip(self._pending, continuations, strict=True):
            verdicts = [sample.right for sample in samples if sample.right is not None]
            self._drawn[node] += samples
            self._asked[node] += request.n
            self._sampled[node] += len(verdicts)
            self._correct[node] += sum(verdicts)
            self._tokens[node] += sum(sample.tokens for sample in samples)
            self._truncated += len(samples) - len(verdicts)
            for sample in samples:
                oldest = sample.policy_version if self._version is None else self._version
                self._version = min(oldest, sample.policy_version)
        self._rounds += bool(self._pending)
        self._pending = []

    def continuations(self) -> list[list[list[Continuation]]]:
        """All that was sampled so far, of each step of each rollout, in the order in which it was asked for; steps that
        share their prefix have the same."""
        ends = np.cumsum([len(rollout.steps) for rollout in self._rollouts])
        return [
            [self._drawn[node] for node in self._node[end - len(rollout.steps) : end]]
            for rollout, end in zip(self._rollouts, ends, strict=True)
        ]

    def continued(self) -> list[Continued]:
        """The same once each, also where rollouts share prefixes; without those that nobody went on from."""
        rollouts = np.repeat(np.arange(len(self._rollouts)), [len(rollout.steps) for rollout in self._rollouts])
        return [
            Continued(int(rollouts[step]), self._steps[step][2].end, drawn)
            for step, drawn in zip(self._first_step, self._drawn, strict=True)
            if drawn
        ]

    def counts(self) -> list[StepCounts]:
        """What each rollout's steps count; one entry a rollout, with 0 of 0 for what is missing.

        Missing are steps that `rewards.annotation.first_error` leaves out, steps none of whose continuations finished,
        and all steps of a rollout that a triage did not choose: what the probe found was enough to pass it over, but
        1 right of 1 would look like a step as sure as 16 of 16. A chosen rollout's probe counts; as it was chosen for
        it, its counts are a little better than a fresh sample would be.

        The version is that of the oldest weights that sampled continuations, or the rollout's own if none were.
        """
        evidence = self._evidence()
        right, finished = labels(evidence, self._budget.policy(evidence), self._budget.first_error)
        labelled = self.chosen[evidence.rollout]
        right, finished = np.where(labelled, right, 0), np.where(labelled, finished, 0)
        ends = np.cumsum(evidence.lengths)
        return [
            StepCounts(
                right[end - len(rollout.steps) : end],
                finished[end - len(rollout.steps) : end],
                rollout.policy_version if self._version is None else self._version,
            )
            for rollout, end in zip(self._rollouts, ends, strict=True)
        ]

    def cost(self, seconds: float = 0.0) -> LabelCost:
        """What it took so far, beside ``fixed``; ``seconds`` is the time that the caller spent on it."""
        rest = np.array([len(rollout.token_ids) - span.end for rollout, _, span in self._steps], dtype=float)
        asked, tokens = self._asked[self._node], self._tokens[self._node]
        length = np.where(asked > 0, tokens / np.maximum(asked, 1), rest)
        return LabelCost(
            continuations=int(self._asked.sum()),
            tokens=int(self._tokens.sum()),
            truncated=self._truncated,
            rounds=self._rounds,
            seconds=seconds,
            fixed_continuations=self._budget.continuations * len(self._steps),
            fixed_tokens=float(self._budget.continuations * length.sum()),
        )

    def _judged(self, request: SamplingRequest, sample: Completion) -> Continuation:
        right = None
        if sample.finish_reason == "stop":
            tokens = (*request.prefix, *sample.token_ids)
            right = verdict_of(self._verifier, Answer(self._decode(tokens), request.prompt, tokens)).correct
        return Continuation.of(sample, right)

    def _more(self, evidence: Evidence) -> np.ndarray:
        """Further continuations for each step in this round (S,)."""
        triage = self._budget.triage
        if triage is not None and self._chosen is None:
            probe = fixed(evidence, triage.probe)
            if probe.any():
                return probe
            self._chosen = triage.choose(evidence)
        wanted = np.where(self.chosen[evidence.rollout], self._budget.policy(evidence), 0)
        return np.where(may_ask(evidence, wanted, self._budget.first_error), wanted, 0)

    def _request(self, node: int, continuations: int) -> SamplingRequest:
        rollout, prompt, span = self._steps[self._first_step[node]]
        prefix = rollout.token_ids[: span.end]
        seed = derive_seed(self._seed, prompt.id, rollout.group, *prefix, *self._copy[node])
        asked = int(self._asked[node])
        return SamplingRequest(prompt, prefix, continuations, derive_seed(seed, asked) if asked else seed)

    def _key(self, rollout: Rollout, span: StepSpan, place: int) -> Hashable:
        """What makes two steps one node."""
        shared = (rollout.prompt_id, rollout.group, rollout.token_ids[: span.end])
        return shared if self._budget.share_prefixes else place

    def _outcomes(self, rollouts: Sequence[Rollout], places: dict[Hashable, int]) -> tuple[np.ndarray, np.ndarray]:
        """Right ones among the finished rollouts that pass through each node, and all of them."""
        correct, passing = np.zeros((2, len(places)))
        steps = [(rollout, span) for rollout in rollouts for span in rollout.steps]
        for place, (rollout, span) in enumerate(steps):
            node = places.get(self._key(rollout, span, place))
            if node is not None and rollout.finish_reason == "stop":
                correct[node] += rollout.outcome
                passing[node] += 1
        return correct, passing

    def _evidence(self) -> Evidence:
        node = self._node
        return Evidence(
            lengths=np.array([len(rollout.steps) for rollout in self._rollouts], dtype=np.int64),
            source=np.array([rollout.source for rollout in self._rollouts], dtype=object),
            asked=self._asked[node],
            correct=self._correct[node],
            sampled=self._sampled[node],
            passing_correct=self._passing_correct[node],
            passing=self._passing[node],
            outcome=self._outcome,
            group_correct=self._group_correct,
            group_sampled=self._group_sampled,
            outcome_weight=self._budget.outcome_weight,
            step_scores=self._step_scores,
            believed=self._believed,
        )


def _group_outcomes(rollouts: Sequence[Rollout], siblings: Sequence[Rollout]) -> tuple[np.ndarray, np.ndarray]:
    """Right ones among the finished rollouts of each rollout's group (B,), and all of them (B,)."""
    totals: dict[tuple[str, int], tuple[float, int]] = {}
    for rollout in (*rollouts, *siblings):
        group = (rollout.prompt_id, rollout.group)
        correct, sampled = totals.get(group, (0.0, 0))
        finished = rollout.finish_reason == "stop"
        totals[group] = (correct + rollout.outcome * finished, sampled + finished)
    rows = [totals[rollout.prompt_id, rollout.group] for rollout in rollouts]
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows], dtype=float)
