"""Small records for tests, made by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from rewards.records import Annotated, Completion, Prompt, Rollout, StepCounts, StepSpan
from selection.candidates import Candidates


def an_image(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (3, 2)) -> Image.Image:
    """A plain picture with one odd pixel, so that turning or scaling it would show."""
    image = Image.new("RGB", size, colour)
    image.putpixel((0, 0), (1, 2, 3))
    return image


def a_prompt(
    name: str = "prompt", source: str = "total", answer: str = "4", images: Sequence[Image.Image] | None = None
) -> Prompt:
    return Prompt(name, source, f"What is {name}?", (an_image(),) if images is None else tuple(images), answer)


def a_rollout(
    step_lengths: Sequence[int] = (2, 2),
    *,
    outcome: float = 1.0,
    group: int = 0,
    source: str = "total",
    prompt: str = "prompt",
    tail: int = 1,
    tokens: Sequence[int] | None = None,
    finish_reason: str = "stop",
    version: int = 0,
) -> Rollout:
    """Steps of the given lengths in tokens, then ``tail`` tokens that belong to none."""
    ends = np.cumsum([0, *step_lengths]).tolist()
    token_ids = tuple(range(10, 10 + ends[-1] + tail)) if tokens is None else tuple(tokens)
    return Rollout(
        prompt_id=prompt,
        source=source,
        group=group,
        token_ids=token_ids,
        logprobs=tuple(-0.1 * (i + 1) for i in range(len(token_ids))),
        text=" ".join(map(str, token_ids)),
        steps=tuple(StepSpan(start, end) for start, end in itertools.pairwise(ends)),
        outcome=outcome,
        finish_reason=finish_reason,
        policy_version=version,
    )


def some_counts(correct: Sequence[int], sampled: Sequence[int] | int = 8, version: int = 0) -> StepCounts:
    each = [sampled] * len(correct) if isinstance(sampled, int) else list(sampled)
    return StepCounts(np.array(correct, dtype=np.int64), np.array(each, dtype=np.int64), version)


def some_candidates(counts: Sequence[StepCounts]) -> Candidates:
    """What selectors see of rollouts with these counts; rollouts without a step are let through."""
    ends = [np.zeros(0), *(entry.correct for entry in counts)], [np.zeros(0), *(entry.sampled for entry in counts)]
    lengths = np.array([len(entry.sampled) for entry in counts], dtype=np.int64)
    return Candidates(lengths, np.concatenate(ends[0]).astype(float), np.concatenate(ends[1]).astype(float))


def an_annotated(correct: Sequence[int], sampled: Sequence[int] | int = 8, source: str = "total") -> Annotated:
    """A rollout with one two-token step for each count."""
    rollout = a_rollout([2] * len(correct), source=source)
    return Annotated(a_prompt(source=source), rollout, some_counts(correct, sampled))


def a_completion(tokens: Sequence[int] = (5, 6), finish_reason: str = "stop", version: int = 0) -> Completion:
    return Completion(tuple(tokens), tuple(-0.5 for _ in tokens), finish_reason, version)
