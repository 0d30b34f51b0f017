"""Judges for tests that know the truth of the grid task's steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rewards.models.encoding import Encoder
from rewards.records import Prompt, Rollout, StepScores
from rl.evaluating.guided_search import Judge
from rl.tasks.grid import GridTask


def truthful(task: GridTask, encoder: Encoder, say: Callable[[bool], float] = float) -> Judge:
    """Says of each step whether it and all before it are right, or what ``say`` makes of that."""

    def score(prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
        verdicts = []
        for prompt, rollout in zip(prompts, rollouts, strict=True):
            steps = [encoder.decode(rollout.token_ids[span.start : span.end]) for span in rollout.steps]
            verdicts.append(np.array([say(truth.so_far) for truth in task.step_truth(prompt, steps)]))
        return [StepScores(verdict, 0) for verdict in verdicts]

    return score


def outcome_of(prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> np.ndarray:
    """An outcome model that is never wrong."""
    return np.array([rollout.outcome for rollout in rollouts])


def nobody(prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
    """A judge that must not be asked."""
    raise AssertionError("asked")
