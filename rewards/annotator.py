"""Monte-Carlo step labels: how often does an answer come out right when continued from the end of each step?

VisualPRM's protocol (arXiv 2503.10291, section 3): N continuations a step at the sampling temperature, each judged by
the verifier of the final answer. The score of a step is correct / sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rewards.records import Completion, Prompt, Rollout, SamplingRequest, StepCounts
from rewards.seeds import derive_seed
from rewards.verifiers import Verifier


def continuation_requests(
    rollouts: Sequence[Rollout], prompts: Sequence[Prompt], continuations: int, seed: int
) -> list[SamplingRequest]:
    """One request a step: ``continuations`` samples from the tokens up to the step's end.

    In rollout and step order, so that each prefix extends the one before it and an engine's prefix cache hits.
    """
    return [
        SamplingRequest(
            prompt=prompt,
            prefix=rollout.token_ids[: span.end],
            n=continuations,
            seed=derive_seed(seed, prompt.id, rollout.group, *rollout.token_ids[: span.end]),
        )
        for rollout, prompt in zip(rollouts, prompts, strict=True)
        for span in rollout.steps
    ]


def count_correct(
    rollouts: Sequence[Rollout],
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[Completion]],
    decode: Callable[[Sequence[int]], str],
    verifier: Verifier,
) -> list[StepCounts]:
    """Judge the answers to `continuation_requests`: counts of right and of finished continuations for each step.

    A continuation that was cut off says nothing about its step: it is left out of both counts. A step none of whose
    continuations finished has ``sampled`` 0, which means missing.
    """
    answers = iter(completions)
    policy_version = completions[0][0].policy_version if completions else -1
    result = []
    for rollout, prompt in zip(rollouts, prompts, strict=True):
        correct = np.zeros(len(rollout.steps), dtype=np.int64)
        sampled = np.zeros(len(rollout.steps), dtype=np.int64)
        for j, span in enumerate(rollout.steps):
            prefix = rollout.token_ids[: span.end]
            finished = [sample for sample in next(answers) if sample.finish_reason == "stop"]
            sampled[j] = len(finished)
            correct[j] = sum(verifier(decode([*prefix, *sample.token_ids]), prompt.answer) for sample in finished)
        result.append(StepCounts(correct, sampled, policy_version))
    return result
