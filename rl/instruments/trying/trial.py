"""What one trial of a configuration has seen: prompts, answers, and what each stage took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import nan

from rewards.records import Prompt, Rollout
from rl.instruments.step_preview import Piece


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt as the model reads it.

    Attributes:
        prompt: The task's.
        pieces: Its text, and whether each piece is a special token, or a run of one.
        tokens: All of them.
        picture_tokens: Those of each picture; of all pictures together where they cannot be told apart.
    """

    prompt: Prompt
    pieces: tuple[tuple[str, bool], ...]
    tokens: int
    picture_tokens: tuple[int, ...]


@dataclass(frozen=True)
class Boundary:
    """What was continued from the end of a step.

    Attributes:
        correct, sampled: Monte-Carlo counts of the step.
        text: The first continuation; empty where none was asked for.
        right: Whether that one came out right; None where it was cut off.
    """

    correct: float = 0
    sampled: float = 0
    text: str = ""
    right: bool | None = None


@dataclass
class TriedAnswer:
    """One answer.

    Attributes:
        rollout: It, as the loop would have it.
        pieces: Its steps, and what is in none.
        stated: The final answer that the verifier reads; None without one.
        verdict: What the verifier says, and why.
        difference: Largest difference of a token's log-probability between engine and learner, in nats.
        scores: The MPRM's, one a step; empty without one.
        boundaries: One a step; empty where nothing was continued.
    """

    rollout: Rollout
    pieces: tuple[Piece, ...]
    stated: str | None
    verdict: str
    difference: float = nan
    scores: list[float] = field(default_factory=list)
    boundaries: list[Boundary] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """What a stage took: seconds, and the memory that is held after it, in GiB."""

    name: str
    seconds: float
    memory: float


@dataclass
class Trial:
    """All of it, as far as it came.

    Attributes:
        prompts: As rendered.
        answers: Of each prompt.
        dropped: Answers that no model could read back.
        ends: What ends an answer, as text.
        stages: In order.
        difference, difference_after: Largest difference of a token's log-probability between engine and learner, in
            nats: of the answers, and of others after new weights.
        learned: What the learner says of its policy step.
        labelled: Answers whose steps were continued.
        warnings: In words.
        failure: What ended it early; empty if nothing did.
    """

    prompts: list[RenderedPrompt] = field(default_factory=list)
    answers: list[list[TriedAnswer]] = field(default_factory=list)
    dropped: int = 0
    ends: tuple[str, ...] = ()
    stages: list[Stage] = field(default_factory=list)
    difference: float = nan
    difference_after: float = nan
    learned: dict[str, float] = field(default_factory=dict)
    labelled: int = 0
    warnings: list[str] = field(default_factory=list)
    failure: str = ""

    def all_answers(self) -> Iterator[TriedAnswer]:
        """Prompt by prompt."""
        return (answer for answers in self.answers for answer in answers)

    def seconds(self, name: str) -> float:
        """What a stage took; 0 if it was never reached."""
        return sum(stage.seconds for stage in self.stages if stage.name == name)
