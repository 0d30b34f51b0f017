"""A user's own task: whatever it does, there is one line about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rewards.records import Prompt, PromptError
from rewards.users_code import in_one_line
from rl.tasks.task import KnowsSteps, Split, StepTruth, Task

LET_THROUGH = (PromptError,)
"""The user's data are to blame, and not the task."""
TEXTS = ("id", "source", "question", "answer")


class TaskError(RuntimeError):
    """A task failed, or gave what is no prompt or no truth; the message says which and why, in one line."""


@dataclass(frozen=True)
class CheckedTask:
    """A task that gives prompts, or stops everything with a `TaskError`, or a `PromptError` of its own.

    Attributes:
        name: For messages.
        task: The user's own.
        sources: The task's.
    """

    name: str
    task: Task
    sources: tuple[str, ...]

    def prompt(self, split: Split, index: int) -> Prompt:
        asked = f"{self.name}: prompt({split!r}, {index})"
        with in_one_line(f"{asked} failed", TaskError, LET_THROUGH):
            prompt = self.task.prompt(split, index)
        if not isinstance(prompt, Prompt):
            raise TaskError(f"{asked} gave a {type(prompt).__name__}; allowed is a rewards.records.Prompt")
        for text in TEXTS:
            if not isinstance(value := getattr(prompt, text), str):
                raise TaskError(f"{asked} gave {text} as a {type(value).__name__}; allowed is text")
        return prompt


@dataclass(frozen=True)
class CheckedKnowing(CheckedTask):
    """The same of a task that knows the truth of steps (`rl.tasks.task.KnowsSteps`)."""

    task: KnowsSteps

    def step_truth(self, prompt: Prompt, steps: Sequence[str]) -> list[StepTruth]:
        asked = f"{self.name}: step_truth of {prompt.id}"
        with in_one_line(f"{asked} failed", TaskError, LET_THROUGH):
            truths = list(self.task.step_truth(prompt, steps))
        if len(truths) != len(steps) or not all(isinstance(truth, StepTruth) for truth in truths):
            raise TaskError(f"{asked} gave no list of {len(steps)} rl.tasks.task.StepTruth, one a step")
        return truths


def checked_task(name: str, task: Task) -> CheckedTask:
    """The user's task, checked; it knows the truth of steps if the user's does.

    Args:
        name: For messages.
        task: The user's own.
    """
    sources = tuple(task.sources)
    return CheckedKnowing(name, task, sources) if isinstance(task, KnowsSteps) else CheckedTask(name, task, sources)
