"""The records that flow between the parts: frozen, typed, and all that the three packages share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:  # selection reads records without ever seeing an image
    from PIL.Image import Image


class PromptError(ValueError):
    """A row of the user's data that no prompt can be made of, or one that a model cannot read; one line that names it
    and what is allowed."""


@dataclass(frozen=True)
class Prompt:
    """One question about one or more images.

    Attributes:
        id: Unique within a task and stable between runs; names the prompt in logs, buffers and error messages.
        source: The kind of question (the stratum that selection keeps apart).
        question: Text of the user's turn, without image placeholders.
        images: RGB images, in the order in which the question refers to them.
        answer: The reference answer that a verifier compares with. Never shown to a model.
        columns: What else its row holds, by column, for verifiers that want it; likewise.
    """

    id: str
    source: str
    question: str
    images: tuple[Image, ...]
    answer: str
    columns: Mapping[str, Any] = field(default_factory=dict)


class Belief(NamedTuple):
    """What is believed of the chance that an answer to a prompt is right: Beta(right, wrong), both positive.

    >>> Belief(3.0, 1.0).chance
    0.75
    """

    right: float
    wrong: float

    @property
    def chance(self) -> float:
        """Its mean."""
        return self.right / (self.right + self.wrong)


@dataclass(frozen=True)
class SamplingRequest:
    """What an engine is asked for: ``n`` continuations of a prompt's answer, from ``prefix`` on.

    Attributes:
        prompt: The question and its images.
        prefix: Completion tokens already written; empty for a whole answer.
        n: How many continuations; 1 where the temperature is 0.
        seed: Decides the samples: equal requests to equal weights give equal continuations.
        temperature: None for the engine's own; 0 for the most likely token each time, with log-probabilities of the
            distribution at temperature 1.
        until: A text with which a continuation ends, and which it keeps; None to go on to the end of the answer.
        max_tokens: Most new tokens of each continuation; None for the engine's limit alone.
    """

    prompt: Prompt
    prefix: tuple[int, ...] = ()
    n: int = 1
    seed: int = 0
    temperature: float | None = None
    until: str | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.temperature == 0 and self.n != 1:
            raise ValueError(f"n is {self.n} at temperature 0, where all continuations are the same: allowed is 1")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}: allowed is 1 or more, or None")


@dataclass(frozen=True)
class Completion:
    """One continuation.

    Attributes:
        token_ids: Its new tokens (T,), with the end-of-sequence token if one was sampled.
        logprobs: Their log-probabilities (T,), in nats, of the distribution sampled from.
        finish_reason: ``stop`` (it ended by itself), ``length`` (it was cut off at the engine's limit), ``until`` (it
            wrote that text) or ``segment`` (it reached the request's ``max_tokens``, and may be continued).
        policy_version: The weights that sampled it.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: str
    policy_version: int


@dataclass(frozen=True)
class StepSpan:
    """Half-open range of completion tokens, ``start <= i < end``, and what kind of step they hold.

    Attributes:
        start, end: The range; a step's text ends with the token ``end - 1``.
        kind: ``perception`` (says what the image shows), ``reasoning`` (goes on from there), or empty where the task
            does not tell steps apart.
    """

    start: int
    end: int
    kind: str = ""


@dataclass(frozen=True)
class Rollout:
    """One sampled answer to a prompt. Its images stay with the prompt and are looked up by ``prompt_id``.

    Attributes:
        prompt_id: The `Prompt` it answers.
        source: The prompt's source.
        group: Which sampling of the prompt it belongs to: rollouts with equal ``group`` form one GRPO group.
        token_ids: Completion tokens (T,), with the end-of-sequence token if one was sampled.
        logprobs: The sampler's log-probability of each token (T,), in nats, of the distribution sampled from.
        text: The decoded completion.
        steps: Token spans of the written steps, in order, not overlapping.
        outcome: The verifier's verdict on the final answer, 1.0 right and 0.0 wrong; to credit rules, the reward.
        finish_reason: ``stop`` (it ended by itself) or ``length`` (it was cut off).
        policy_version: The number of optimizer steps behind the weights that sampled it.
        score: What the verifier says the answer is worth; None where it says right or wrong alone.
        added: What `task.rewards` add to that.
        said: What score and additions are made of, as metrics of the group ``reward``, by name.
    """

    prompt_id: str
    source: str
    group: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    steps: tuple[StepSpan, ...]
    outcome: float
    finish_reason: str
    policy_version: int
    score: float | None = None
    added: float = 0.0
    said: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def reward(self) -> float:
        """What the answer is worth, all together."""
        return (self.outcome if self.score is None else self.score) + self.added


@dataclass(frozen=True)
class StepCounts:
    """Monte-Carlo evidence for the steps of one rollout.

    Attributes:
        correct: Continuations from the end of each step that reached the right answer (K,). Whole numbers, unless the
            annotator adds evidence with a weight; see `rewards.annotation.annotator`.
        sampled: Continuations that finished (K,), likewise; 0 means missing, never wrong.
        policy_version: The weights that sampled the continuations.
    """

    correct: np.ndarray
    sampled: np.ndarray
    policy_version: int


@dataclass(frozen=True)
class StepScores:
    """What the MPRM says of the K steps of one rollout.

    Attributes:
        scores: The probability that each step is right (K,), in [0, 1].
        mprm_version: The version that said so.
        concentration: How sure it is of each score (K,), as the number of continuations that would say as much; None
            from a head that does not know.
    """

    scores: np.ndarray
    mprm_version: int
    concentration: np.ndarray | None = None


@dataclass(frozen=True)
class Annotated:
    """A rollout with its prompt and its Monte-Carlo evidence: what the buffer selects from and the MPRM learns from."""

    prompt: Prompt
    rollout: Rollout
    counts: StepCounts


@dataclass(frozen=True)
class Experience:
    """What the learner needs of one rollout, or of what goes on from the beginning of one.

    Attributes:
        prompt: The prompt, for its images and its text.
        token_ids: Completion tokens (T,).
        sampler_logprobs: Log-probabilities at sampling time (T,), in nats.
        advantages: One advantage a token (T,), dimensionless; with PPO one reward a token, of which the learner's value
            model makes advantages.
        policy_version: The weights that sampled the tokens.
        prefix: Tokens of another rollout, which this one goes on from: they are read, and not learned from.
    """

    prompt: Prompt
    token_ids: tuple[int, ...]
    sampler_logprobs: tuple[float, ...]
    advantages: np.ndarray
    policy_version: int
    prefix: tuple[int, ...] = ()

    @property
    def path(self) -> tuple[int, ...]:
        """All that is read behind the prompt."""
        return self.prefix + self.token_ids
