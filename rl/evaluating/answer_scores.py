"""What a judge says of answers: a process reward model of each step, or an outcome reward model of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rewards.records import Prompt, Rollout, StepScores, StepSpan

Judge = Callable[[Sequence[Prompt], Sequence[Rollout]], Any]
"""``MPRM.score``, with `StepScores` for each rollout, or ``OutcomeModel.score``, with one number for each (B,)."""


def step_scores(judge: Judge, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[list[float]]:
    """The scores of each rollout's steps; an outcome model's score is that of a single step.

    The judge is not shown an empty rollout, which has no scores.
    """
    scores: list[list[float]] = [[] for _ in rollouts]
    shown = [place for place, rollout in enumerate(rollouts) if rollout.token_ids]
    verdicts = judge([prompts[place] for place in shown], [rollouts[place] for place in shown]) if shown else []
    for place, verdict in zip(shown, verdicts, strict=True):
        scores[place] = list(map(float, verdict.scores if isinstance(verdict, StepScores) else [verdict]))
    return scores


def one_shot_scores(judge: Judge, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[float]:
    """One score a rollout: of all that it says, final answer included, as a single step (VL-PRM, arXiv 2509.23250).

    0, the lowest, for an empty one.
    """
    whole = step_scores(judge, prompts, [as_one_step(rollout) for rollout in rollouts])
    return [scores[-1] if scores else 0.0 for scores in whole]


def as_one_step(rollout: Rollout) -> Rollout:
    """The rollout as if it had been written in one step, which ends before the end-of-sequence token."""
    end = len(rollout.token_ids) - (rollout.finish_reason == "stop")
    return replace(rollout, steps=(StepSpan(0, end),) if end > 0 else ())
