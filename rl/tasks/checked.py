"""A user's own task: whatever it does, there is one line about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rewards.records import Prompt, PromptError
from rl.tasks.task import KnowsSteps, Split, StepTruth, Task

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
        with _in_one_line(asked):
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
        with _in_one_line(asked):
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


@contextmanager
def _in_one_line(asked: str) -> Iterator[None]:
    try:
        yield
    except PromptError:  # the user's data, and not the task
        raise
    except Exception as error:  # a task of the user's can fail in any way
        raise TaskError(f"{asked} failed: {type(error).__name__}: {' '.join(str(error).split())}") from error
