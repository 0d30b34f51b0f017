"""Test-time strategies on held-out prompts: samples an answer's pool once, judges it, searches, and keeps it all.

What is sampled becomes one `PromptRecord` a prompt; every strategy's accuracy is then a pure function of the records
(`rl.evaluating.strategy_report`). All strategies that choose among samples share one pool of max N samples and its
scores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rewards.measuring.strategies import OF_THEIR_OWN, WITHOUT_JUDGE, Strategy
from rewards.records import Prompt, Rollout, SamplingRequest
from rewards.seeds import derive_seed
from rewards.verification.answers import VoteReader
from rl.evaluating.guided_search import Judge, Sampler, guided_search, one_shot_scores, step_scores

Entry = TypeVar("Entry")
Seconds = dict[str, float]


@dataclass(frozen=True)
class Plan:
    """What to find out.

    Attributes:
        strategies: By the names of `rewards.measuring.strategies`, each once.
        n: Numbers of samples, rising.
        seed: Of all samples.
    """

    strategies: tuple[Strategy, ...]
    n: tuple[int, ...]
    seed: int = 0

    @property
    def pool(self) -> int:
        """Samples of each prompt that the strategies choose from; 0 if none does."""
        return max(self.n) if set(self.strategies) - OF_THEIR_OWN else 0

    @property
    def scores_steps(self) -> bool:
        """Whether a strategy wants the pool's step scores."""
        return bool(set(self.strategies) - OF_THEIR_OWN - WITHOUT_JUDGE - {"one_shot"})


@dataclass(frozen=True)
class Sample:
    """One answer.

    Attributes:
        text: As the policy wrote it.
        answer: The candidate that it votes for among the prompt's samples; None without one.
        right: The verifier's verdict.
        tokens: Generated for it; in a search, with those that were discarded.
    """

    text: str
    answer: str | None
    right: bool
    tokens: int


@dataclass(frozen=True)
class PromptRecord:
    """All that was sampled for one prompt, and what the judges said of it: a line of the evaluation's file.

    Attributes:
        prompt, source: The prompt's id and source.
        pool: The samples to choose from.
        greedy: The answer at temperature 0.
        step_scores: By judge: of each sample of the pool, the scores of its steps.
        one_shot: By judge: the score of each sample of the pool as a single step.
        guided: By judge and N: what guided greedy search found.
    """

    prompt: str
    source: str
    pool: list[Sample]
    greedy: Sample | None
    step_scores: dict[str, list[list[float]]]
    one_shot: dict[str, list[float]]
    guided: dict[str, dict[int, Sample]]


@dataclass(frozen=True)
class PolicyEvaluator:
    """Tries a policy's answers with every strategy of a plan.

    Attributes:
        plan: What to find out.
        sampler: The policy.
        votes_of: Reads what a prompt's samples vote for; see `rewards.verification.answers`.
        judges: By name; every strategy that needs a judge is tried with each.
    """

    plan: Plan
    sampler: Sampler
    votes_of: VoteReader
    judges: Mapping[str, Judge]

    def evaluate(self, prompts: Sequence[Prompt]) -> tuple[list[PromptRecord], Seconds]:
        """Sample, judge and search, for at least one prompt.

        Returns:
            A record a prompt, and the wall-clock seconds of ``pool``, ``greedy``, ``steps JUDGE``, ``one_shot JUDGE``
            and ``guided JUDGE N``, as far as they are in the plan.
        """
        plan = self.plan
        seconds: Seconds = {}
        pool: list[list[Rollout]] = [[] for _ in prompts]
        pool_samples: list[list[Sample]] = [[] for _ in prompts]
        greedy: list[Sample | None] = [None for _ in prompts]
        if plan.pool:
            with _timed(seconds, "pool"):
                pool, pool_samples = self._answers(prompts, plan.pool, "pool")
        if "greedy" in plan.strategies:
            with _timed(seconds, "greedy"):
                greedy = [samples[0] for samples in self._answers(prompts, 1, "greedy", temperature=0.0)[1]]
        step_scores_of = {name: self._step_scores(name, prompts, pool, seconds) for name in self.judges}
        one_shot_of = {name: self._one_shot(name, prompts, pool, seconds) for name in self.judges}
        guided_of = {name: self._guided(name, prompts, seconds) for name in self.judges}
        return [
            PromptRecord(
                prompt=prompt.id,
                source=prompt.source,
                pool=pool_samples[i],
                greedy=greedy[i],
                step_scores={name: scores[i] for name, scores in step_scores_of.items() if scores},
                one_shot={name: scores[i] for name, scores in one_shot_of.items() if scores},
                guided={name: {n: found[i] for n, found in by_n.items()} for name, by_n in guided_of.items() if by_n},
            )
            for i, prompt in enumerate(prompts)
        ], seconds

    def _answers(
        self, prompts: Sequence[Prompt], n: int, name: str, temperature: float | None = None
    ) -> tuple[list[list[Rollout]], list[list[Sample]]]:
        """``n`` answers to each prompt, as what judges read and as what is kept."""
        requests = [
            SamplingRequest(prompt, n=n, seed=derive_seed(self.plan.seed, name, prompt.id), temperature=temperature)
            for prompt in prompts
        ]
        completions = self.sampler.sample(requests)
        rollouts = [self.sampler.read([p] * n, group) for p, group in zip(prompts, completions, strict=True)]
        spent = [[len(completion.token_ids) for completion in group] for group in completions]
        return rollouts, [self._samples(*pair) for pair in zip(rollouts, spent, strict=True)]

    def _samples(self, rollouts: Sequence[Rollout], tokens: Sequence[int]) -> list[Sample]:
        """The samples of one prompt."""
        votes = self.votes_of([rollout.text for rollout in rollouts])
        return [
            Sample(rollout.text, vote, rollout.outcome > 0, spent)
            for rollout, vote, spent in zip(rollouts, votes, tokens, strict=True)
        ]

    def _step_scores(
        self, name: str, prompts: Sequence[Prompt], pool: Sequence[Sequence[Rollout]], seconds: Seconds
    ) -> list[list[list[float]]]:
        if not self.plan.scores_steps:
            return []
        with _timed(seconds, f"steps {name}"):
            scores = step_scores(self.judges[name], *_flat(prompts, pool))
        return _grouped(scores, self.plan.pool)

    def _one_shot(
        self, name: str, prompts: Sequence[Prompt], pool: Sequence[Sequence[Rollout]], seconds: Seconds
    ) -> list[list[float]]:
        if "one_shot" not in self.plan.strategies:
            return []
        with _timed(seconds, f"one_shot {name}"):
            scores = one_shot_scores(self.judges[name], *_flat(prompts, pool))
        return _grouped(scores, self.plan.pool)

    def _guided(self, name: str, prompts: Sequence[Prompt], seconds: Seconds) -> dict[int, list[Sample]]:
        found: dict[int, list[Sample]] = {}
        for n in self.plan.n if "guided_greedy" in self.plan.strategies else ():
            with _timed(seconds, f"guided {name} {n}"):
                answers = guided_search(self.sampler, self.judges[name], prompts, n, self.plan.seed)
                rollouts = self.sampler.read(prompts, [answer.completion for answer in answers])
            found[n] = [
                self._samples([rollout], [answer.tokens])[0] for rollout, answer in zip(rollouts, answers, strict=True)
            ]
        return found


@contextmanager
def _timed(seconds: Seconds, name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began


def _flat(prompts: Sequence[Prompt], pool: Sequence[Sequence[Rollout]]) -> tuple[list[Prompt], list[Rollout]]:
    """The pool in one row, each rollout with its prompt."""
    pairs = [(prompt, rollout) for prompt, group in zip(prompts, pool, strict=True) for rollout in group]
    return [prompt for prompt, _ in pairs], [rollout for _, rollout in pairs]


def _grouped(entries: Sequence[Entry], size: int) -> list[list[Entry]]:
    return [list(entries[start : start + size]) for start in range(0, len(entries), size)]
