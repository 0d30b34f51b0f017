"""Rollouts of the shipped policy, for tests of the learner."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from rewards.records import Experience, SamplingRequest
from rl.engines.hf_engine import HfEngine
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.grid import GridTask

CHECKPOINT = str(SHIPPED_POLICY)


@cache
def sampled_experiences() -> tuple[Experience, ...]:
    """Twelve rollouts of three prompts, with advantages that differ from token to token."""
    task, generator = GridTask(), np.random.default_rng(0)
    prompts = [task.prompt("train", index) for index in range(3)]
    samples = HfEngine(CHECKPOINT).sample([SamplingRequest(prompt, n=4, seed=1) for prompt in prompts])
    return tuple(
        Experience(prompt, s.token_ids, s.logprobs, generator.normal(size=len(s.token_ids)), 0)
        for prompt, group in zip(prompts, samples, strict=True)
        for s in group
    )


def of_another_sampler(experiences: tuple[Experience, ...], spread: float = 0.3) -> list[Experience]:
    """The same rollouts, as if a policy had sampled them whose log-probabilities are off by this much."""
    generator = np.random.default_rng(1)
    return [
        replace(e, sampler_logprobs=tuple(np.array(e.sampler_logprobs) + generator.normal(0, spread, len(e.token_ids))))
        for e in experiences
    ]


def largest_difference(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """Between two sets of weights."""
    assert left.keys() == right.keys()
    return max((left[name].float() - right[name].float()).abs().max().item() for name in left)
