"""What a task is: a source of prompts, and, where the truth is known, of step labels for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from rewards.records import Prompt

Split = Literal["train", "heldout"]


class Task(Protocol):
    """A deterministic stream of prompts.

    ``prompt(split, index)`` gives the same prompt for the same arguments in every process, for every index from 0 on;
    a finite task wraps around. No prompt of one split occurs in the other. Data that are no prompt are a
    `rewards.records.PromptError`; anything else that it raises is a failure of the task (`rl.tasks.checked`).
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
