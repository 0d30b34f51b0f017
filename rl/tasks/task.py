"""What a task is: a source of prompts, and, where the truth is known, of step labels for evaluation."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import PIL.Image

from rewards.models.steps import step_texts
from rewards.records import Prompt, PromptError, Rollout
from rewards.users_code import UsersCodeError, in_one_line

Split = Literal["train", "heldout"]
LET_THROUGH = (PromptError, UsersCodeError)
"""The user's data are to blame, and not the task; or it is said already."""
TEXTS = ("id", "source", "question", "answer")


class Task(Protocol):
    """A deterministic stream of prompts.

    ``prompt(split, index)`` gives the same prompt for the same arguments in every process, for every index from 0 on;
    a finite task wraps around. No prompt of one split occurs in the other. Data that are no prompt are a
    `rewards.records.PromptError`; anything else that it raises is a failure of the task (`rl.tasks.task`).
    """

    @property
    def sources(self) -> tuple[str, ...]: ...

    def prompt(self, split: Split, index: int) -> Prompt: ...


@dataclass(frozen=True)
class StepTruth:
    """The truth about one written step, known only to tasks that draw their own images. For evaluation alone.

    Attributes:
        kind: The source, the step's position and what it does, for example ``total/3:multiply``. Reward models are
            compared within a kind, where knowing the step's position is worth nothing.
        own: Right on its own: the step follows from the image and the text before it.
        so_far: Right so far: this step and all before it are right.
    """

    kind: str
    own: bool
    so_far: bool


@runtime_checkable
class KnowsSteps(Task, Protocol):
    """A task that can tell, for evaluation, which written steps of an answer to its prompt are right."""

    def step_truth(self, prompt: Prompt, steps: Sequence[str]) -> list[StepTruth]: ...


def truths_of(
    task: KnowsSteps, prompt: Prompt, rollout: Rollout, decode: Callable[[Sequence[int]], str]
) -> list[StepTruth]:
    """The truth about each step of a rollout."""
    return task.step_truth(prompt, [text.strip() for text in step_texts(rollout, decode)])


@runtime_checkable
class HasPasses(Task, Protocol):
    """A task of so many rows, which are asked again after the last one."""

    def passes(self, count: int) -> float:
        """Passes over the training rows in the first ``count`` prompts."""
        ...


@dataclass(frozen=True)
class CheckedTask:
    """A task that gives prompts, or stops everything with a `UsersCodeError`, or a `PromptError` of its own.

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
        with in_one_line(asked, let_through=LET_THROUGH):
            return _checked_prompt(asked, self.task.prompt(split, index))


def _checked_prompt(asked: str, prompt: Prompt) -> Prompt:
    if not isinstance(prompt, Prompt):
        raise UsersCodeError(f"{asked} gave a {type(prompt).__name__}; allowed is a rewards.records.Prompt")
    for text in TEXTS:
        if not isinstance(value := getattr(prompt, text), str):
            raise UsersCodeError(f"{asked} gave {text} as a {type(value).__name__}; allowed is text")
        try:
            value.encode()
        except UnicodeEncodeError:
            told = f"{asked} gave {text} with half of a character; allowed is text that UTF-8 can hold"
            raise UsersCodeError(told) from None
    if not isinstance(prompt.columns, Mapping):
        raise UsersCodeError(f"{asked} gave columns as a {type(prompt.columns).__name__}; allowed is a mapping")
    images = prompt.images
    if not isinstance(images, tuple | list) or not all(isinstance(image, PIL.Image.Image) for image in images):
        raise UsersCodeError(f"{asked} gave images as {reprlib.repr(images)}; allowed is a tuple of PIL's images")
    for image in images:
        with in_one_line(asked, "gave an image that cannot be read"):
            image.load()
    if not all(min(image.size) for image in images):
        raise UsersCodeError(f"{asked} gave an image without a pixel; allowed is one or more")
    return prompt


@dataclass(frozen=True)
class CheckedKnowing(CheckedTask):
    """The same of a task that knows the truth of steps (`rl.tasks.task.KnowsSteps`)."""

    task: KnowsSteps

    def step_truth(self, prompt: Prompt, steps: Sequence[str]) -> list[StepTruth]:
        asked = f"{self.name}: step_truth of {prompt.id!r}"
        with in_one_line(asked, let_through=LET_THROUGH):
            truths = list(self.task.step_truth(prompt, steps))
            if len(truths) != len(steps) or not all(map(_is_truth, truths)):
                raise UsersCodeError(
                    f"{asked} gave no list of {len(steps)} rl.tasks.task.StepTruth, one a step, of text and two times "
                    "true or false"
                )
            return truths


def _is_truth(truth: object) -> bool:
    if not isinstance(truth, StepTruth):
        return False
    return isinstance(truth.kind, str) and all(isinstance(said, bool | np.bool_) for said in (truth.own, truth.so_far))


def checked_task(name: str, task: Task) -> CheckedTask:
    """The user's task, checked; it knows the truth of steps if the user's does.

    Args:
        name: For messages.
        task: The user's own.
    """
    sources = tuple(task.sources)
    return CheckedKnowing(name, task, sources) if isinstance(task, KnowsSteps) else CheckedTask(name, task, sources)
