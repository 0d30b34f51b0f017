"""The real quickstart's task: `files`, and for evaluation which written steps are right."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.records import Prompt
from rl.config import Config
from rl.real_policy.questions import Question, Seen
from rl.real_policy.solutions import check_steps
from rl.tasks.files import FileTask
from rl.tasks.making import make_file_task
from rl.tasks.task import Split, StepTruth


class RealTask:
    """Questions about real pictures, from the tables that `rl.real_policy.make_real` wrote.

    A row's ``id`` says what its pictures show, see `row_id`; no model ever sees that.
    """

    def __init__(self, files: FileTask) -> None:
        self._files, self.sources = files, files.sources

    def prompt(self, split: Split, index: int) -> Prompt:
        return self._files.prompt(split, index)

    def passes(self, count: int) -> float:
        return self._files.passes(count)

    def step_truth(self, prompt: Prompt, steps: Sequence[str]) -> list[StepTruth]:
        seen = seen_in(prompt.id)
        return check_steps(Question(prompt.question, prompt.answer, (), seen, prompt.source), steps)


def make(config: Config) -> RealTask:
    """For ``task.name``."""
    return RealTask(make_file_task(config))


def row_id(number: int, seen: tuple[Seen, ...]) -> str:
    """A row's number, and what each picture shows.

    >>> row_id(17, (("red", "circle"),)), row_id(18, (("3",), ("5",)))
    ('17/red-circle', '18/3/5')
    """
    return "/".join([str(number), *("-".join(words) for words in seen)])


def seen_in(prompt_id: str) -> tuple[Seen, ...]:
    """What the pictures show, out of `row_id`, whatever stands before it.

    >>> seen_in("train.jsonl:18/3/5")
    (('3',), ('5',))
    """
    return tuple(tuple(words.split("-")) for words in prompt_id.rpartition(":")[2].split("/")[1:])
