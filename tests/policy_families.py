"""Tiny policies that sample in vLLM and learn in TRL, and what the two say of the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from rewards.models.encoding import Batch, Encoder
from rewards.records import Completion, Experience, Prompt, SamplingRequest
from rl.engines.vllm_engine import VllmEngine
from rl.learning.learner import PolicyLearner
from rl.learning.settings import LearnerSettings

TOLERANCE = 1e-3
TOKENS = 12


def a_picture(width: int, height: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


TEXT_ONLY = [Prompt("none", "s", "What is 1 + 1?", (), "2"), Prompt("nothing", "s", "Say something.", (), "a")]
PROMPTS = [
    Prompt("one", "s", "How many dogs?", (a_picture(56, 56, 0),), "2"),
    Prompt("two", "s", "Which of them has more cats than dogs?", (a_picture(160, 40, 1), a_picture(50, 90, 2)), "1"),
    TEXT_ONLY[0],
    Prompt("wide", "s", "Is it red?", (a_picture(112, 31, 3),), "0"),
    Prompt("again", "s", "And these?", (a_picture(60, 120, 4), a_picture(84, 84, 5)), "0"),
]
"""One picture, two of different sizes, none, and again."""


class CausalEncoder(Encoder):
    """Says of no token that it is part of a picture: Gemma 3 then attends to all of them in one direction.

    vLLM does so on a CPU, whose only attention knows no other way; on a GPU it looks in both, as Transformers does.
    """

    def batch(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]], heads: Sequence[str] | None = None
    ) -> Batch:
        batch = super().batch(prompts, completions, heads)
        return replace(batch, token_types={name: types * 0 for name, types in batch.token_types.items()})


@dataclass(frozen=True)
class Policy:
    """One family: where it starts from, what samples, and with which attention to pictures it learns."""

    family: str
    checkpoint: str
    encoder: Encoder
    engine: VllmEngine

    @classmethod
    def of(cls, family: str, checkpoint: str, **engine: Any) -> Policy:
        one_way = family == "gemma3" and not torch.cuda.is_available()
        encoder = CausalEncoder(checkpoint) if one_way else Encoder(checkpoint)
        return cls(family, checkpoint, encoder, VllmEngine(checkpoint, 1.0, TOKENS, images_per_prompt=2, **engine))

    def __enter__(self) -> Policy:
        return self

    def __exit__(self, *error: object) -> None:
        self.engine.close()

    def learner(self, encoder: Encoder | None = None, **settings: Any) -> PolicyLearner:
        """One that makes large steps, over micro-batches of which some hold no picture."""
        chosen = LearnerSettings(learning_rate=1e-2, micro_batch=3, max_completion_tokens=TOKENS, **settings)
        return PolicyLearner(self.checkpoint, encoder or self.encoder, chosen)

    def sampled(self, prompts: Sequence[Prompt], seed: int) -> list[tuple[Prompt, Completion]]:
        """Answers without image placeholders, which random weights sometimes write, and which the loop drops."""
        groups = self.engine.sample([SamplingRequest(prompt, n=4, seed=seed + i) for i, prompt in enumerate(prompts)])
        return without_placeholders(self.encoder, prompts, groups)


def without_placeholders(
    encoder: Encoder, prompts: Sequence[Prompt], groups: Sequence[Sequence[Completion]]
) -> list[tuple[Prompt, Completion]]:
    rows = [(prompt, sample) for prompt, samples in zip(prompts, groups, strict=True) for sample in samples]
    kept = [row for row in rows if encoder.placeholders.isdisjoint(row[1].token_ids)]
    assert {prompt.id for prompt, _ in kept} == {prompt.id for prompt in prompts}
    return kept


def largest_difference(rows: Sequence[tuple[Prompt, Completion]], scored: Sequence[Sequence[float]]) -> float:
    """Between the engine's log-probabilities of sampled tokens and others."""
    return max(
        float(np.abs(np.array(values) - np.array(sample.logprobs)).max())
        for values, (_, sample) in zip(scored, rows, strict=True)
    )


def scored(learner: PolicyLearner, rows: Sequence[tuple[Prompt, Completion]]) -> list[list[float]]:
    """The learner's log-probabilities."""
    return learner.logprobs([prompt for prompt, _ in rows], [sample.token_ids for _, sample in rows])


def some_experiences(rows: Sequence[tuple[Prompt, Completion]]) -> list[Experience]:
    """With advantages by chance."""
    generator = np.random.default_rng(0)
    return [
        Experience(prompt, s.token_ids, s.logprobs, generator.normal(size=len(s.token_ids)), s.policy_version)
        for prompt, s in rows
    ]
