"""What a policy's own words tell of its steps: is a wrong one an unlikely one, and how well do continuations label?

For tasks that know which steps are right (`rl.tasks.task.KnowsSteps`). Where likelihood alone tells right steps from
wrong ones, every reward model that can read it looks good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import nan
from typing import Any

import numpy as np

from rewards.annotation.annotator import Annotation
from rewards.annotation.budgets import make_budget
from rewards.measuring.discrimination import step_discrimination
from rewards.process_model.labels import hard
from rewards.records import Prompt, Rollout, SamplingRequest
from rewards.seeds import derive_seed
from rl.evaluating.guided_search import Sampler
from rl.tasks.task import KnowsSteps, StepTruth, truths_of


@dataclass(frozen=True)
class Likelihood:
    """How well log-likelihood tells right steps from wrong ones; areas of `rewards.measuring.discrimination`.

    Attributes:
        own, own_standard_error: The step's likelihood against whether it is right on its own.
        cumulative, cumulative_standard_error: That of all text up to its end against whether all of it is right.
    """

    own: float
    own_standard_error: float
    cumulative: float
    cumulative_standard_error: float


@dataclass(frozen=True)
class PolicySteps:
    """Of one answer to each prompt.

    Attributes:
        answers, steps: How many there are.
        right: Share of the steps that are right on their own.
        right_so_far: Share of them that are right, after only right ones.
        likelihood: Of all steps.
        continuations: How many each step was continued by, for the labels below.
        label_noise: Share of steps whose hard Monte-Carlo label is not the truth; NaN without continuations.
        false_positive: Share of wrong steps that are labelled right.
        false_negative: Share of right steps that are labelled wrong.
    """

    answers: int
    steps: int
    right: float
    right_so_far: float
    likelihood: Likelihood
    continuations: int
    label_noise: float
    false_positive: float
    false_negative: float

    def to_json(self) -> dict[str, Any]:
        """Numbers by name; what cannot be said, because there is one class, is null."""
        flat = asdict(self) | {f"likelihood_{name}": value for name, value in asdict(self.likelihood).items()}
        del flat["likelihood"]
        return {name: None if value != value else value for name, value in flat.items()}


def measure_steps(
    sampler: Sampler, task: KnowsSteps, prompts: Sequence[Prompt], continuations: int, seed: int
) -> PolicySteps:
    """Sample an answer to each prompt, continue it from the end of each step, and compare both with the truth."""
    requests = [SamplingRequest(p, n=1, seed=derive_seed(seed, "steps", p.id)) for p in prompts]
    rollouts = sampler.read(prompts, [samples[0] for samples in sampler.sample(requests)])
    truths = [truths_of(task, *pair, sampler.encoder.decode) for pair in zip(prompts, rollouts, strict=True)]
    flat = [truth for steps in truths for truth in steps]
    own, so_far = (np.array([getattr(truth, name) for truth in flat], dtype=bool) for name in ("own", "so_far"))
    label = _labels(sampler, prompts, rollouts, continuations, seed)
    known = ~np.isnan(label)
    return PolicySteps(
        answers=len(rollouts),
        steps=len(flat),
        right=_share(own),
        right_so_far=_share(so_far),
        likelihood=_likelihood(rollouts, flat, own, so_far),
        continuations=continuations,
        label_noise=_share(label[known] != so_far[known]),
        false_positive=_share(label[known & ~so_far] == 1),
        false_negative=_share(label[known & so_far] == 0),
    )


def _likelihood(
    rollouts: Sequence[Rollout], truths: Sequence[StepTruth], own: np.ndarray, so_far: np.ndarray
) -> Likelihood:
    nothing = np.zeros(0)
    steps = [np.array([sum(r.logprobs[span.start : span.end]) for span in r.steps]) for r in rollouts]
    kinds = [truth.kind for truth in truths]
    groups = np.repeat(np.arange(len(rollouts)), [len(rollout.steps) for rollout in rollouts])
    alone = step_discrimination(np.concatenate([nothing, *steps]), own, kinds, groups)
    together = step_discrimination(np.concatenate([nothing, *map(np.cumsum, steps)]), so_far, kinds, groups)
    return Likelihood(alone.weighted, alone.standard_error, together.weighted, together.standard_error)


def _labels(
    sampler: Sampler, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], continuations: int, seed: int
) -> np.ndarray:
    """The hard Monte-Carlo label of every step (S,), NaN for one without."""
    budget = make_budget("fixed", continuations)
    annotation = Annotation(rollouts, prompts, budget, sampler.encoder.decode, sampler.verifier, seed)
    while requests := annotation.requests():
        annotation.receive(sampler.sample(requests))
    return np.concatenate([np.zeros(0), *map(hard, annotation.counts())])


def _share(verdicts: np.ndarray) -> float:
    return float(verdicts.mean()) if len(verdicts) else nan
