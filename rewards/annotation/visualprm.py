"""VisualPRM400K's record format (arXiv 2503.10291): one annotated rollout a line, written from and read into ours.

    {"image": "images/7.png", "question": …, "question_orig": …, "answer": …, "response": …, "num_mc_sequences": 16,
     "steps_with_score": [{"step": …, "score": 0.75, "num_mc_correct": 12, "num_mc_total": 16}, …]}

``image`` is a path; a list of paths where there are several images, and null where there is none. A step with
``num_mc_total`` 0 is missing, whatever its score says: the format writes 0.0 there. Counts are whole numbers, unless
the annotator added evidence with a weight; then they are written as they are.

What published BIS trains on, and `sieve select` writes, is read, too; it has scores and no counts:

    {"image": "images/7.png", "conversations": [
        {"from": "human", "value": "Question: Q\\nProcess: S1<prm>\\n\\nS2<prm>"},
        {"from": "gpt", "value": [1.0, 0.75]}]}

So is what VisualPRM trains on (VisualPRM400K without "Raw"), a turn a step, perhaps after a system prompt:

    {"image": "images/7.png", "conversations": [
        {"from": "human", "value": "### Question:\\nQ\\n\\n### Solution Process:\\nS1"}, {"from": "gpt", "value": "+"},
        {"from": "human", "value": "S2"}, {"from": "gpt", "value": "-"}]}

and VL-PRM300K (arXiv 2509.23250), whose ``steps_with_score`` are as above; its judge's ``first_incorrect_step`` and its
``conversations``, which rest on that, are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy as np
from PIL.Image import Image

from rewards.files.json_records import PLACEHOLDER, UnusableRecordError, json_object
from rewards.models.encoding import Encoder
from rewards.models.rollout_of_steps import rollout_of_steps
from rewards.models.steps import step_texts
from rewards.records import Annotated, Prompt, StepCounts

STEP_MARKER = "<prm>"
VERDICTS = {"+": 1.0, "-": 0.0}
OPENING = re.compile(r"### Question:\n(.*?)\n\n### Solution Process:\n(.*)", re.DOTALL)
CONVERSATION = re.compile(rf"Question: (.*?)\nProcess: (.*{STEP_MARKER})\s*", re.DOTALL)


@dataclass(frozen=True)
class ScoredStep:
    """One step: its text, and how many of the finished continuations from its end were right; 0 of 0 is missing."""

    text: str
    correct: float
    sampled: float

    @property
    def score(self) -> float:
        """The Monte-Carlo score, correct / sampled; 0.0 for a missing step, as the format has it."""
        return self.correct / self.sampled if self.sampled else 0.0


@dataclass(frozen=True)
class Record:
    """One rollout with its labels.

    Attributes:
        images: Paths, relative to a folder that the record does not name.
        question: What was asked.
        answer: The reference answer.
        response: The whole rollout.
        continuations: Most continuations of one step.
        steps: Its written steps, in order.
    """

    images: tuple[str, ...]
    question: str
    answer: str
    response: str
    continuations: int
    steps: tuple[ScoredStep, ...]


def make_record(
    entry: Annotated, images: Sequence[str], continuations: int, decode: Callable[[Sequence[int]], str]
) -> Record:
    """The record of an annotated rollout whose images were saved at the paths ``images``."""
    rollout, counts = entry.rollout, entry.counts
    texts = [text.strip() for text in step_texts(rollout, decode)]
    steps = zip(texts, counts.correct.tolist(), counts.sampled.tolist(), strict=True)
    return Record(
        images=tuple(images),
        question=entry.prompt.question,
        answer=entry.prompt.answer,
        response=rollout.text,
        continuations=continuations,
        steps=tuple(ScoredStep(*step) for step in steps),
    )


def format_record(record: Record) -> str:
    """The record as a line of JSON, with its line break; characters outside ASCII stay as they are."""
    images: str | list[str] | None = list(record.images) if len(record.images) > 1 else None
    steps = [
        {
            "step": step.text,
            "score": step.score,
            "num_mc_correct": _whole(step.correct),
            "num_mc_total": _whole(step.sampled),
        }
        for step in record.steps
    ]
    content = {
        "image": record.images[0] if len(record.images) == 1 else images,
        "question": record.question,
        "question_orig": record.question,
        "answer": record.answer,
        "response": record.response,
        "num_mc_sequences": record.continuations,
        "steps_with_score": steps,
    }
    return json.dumps(content, ensure_ascii=False) + "\n"


def parse_record(line: bytes) -> Record:
    """What a line says. The question is ``question_orig``, or else ``question``.

    A step's evidence is its counts, or, where it has none, its score s as s right of 1; with neither it is missing. A
    numeric string counts as a number. What is not needed to learn from (answer, response) may be missing.

    Raises:
        UnusableRecordError: It is no such record, or has no image, no question, an empty step, evidence that cannot be,
            or no step with evidence.
    """
    content = json_object(line)
    if "conversations" in content and "steps_with_score" not in content:
        content |= _of_conversation(content["conversations"])
    images = content.get("image")
    images = images if isinstance(images, list) else [images]
    if not images or not all(isinstance(image, str) and image for image in images):
        raise UnusableRecordError("no image")
    question = content.get("question_orig") or content.get("question")
    if not isinstance(question, str):
        raise UnusableRecordError("no question")
    steps = content.get("steps_with_score")
    if not isinstance(steps, list) or not steps:
        raise UnusableRecordError("no steps")
    parsed = tuple(_step(number, step) for number, step in enumerate(steps, start=1))
    if not any(step.sampled for step in parsed):
        raise UnusableRecordError("no step with a score")
    asked = content.get("num_mc_sequences")
    return Record(
        images=tuple(images),
        question=question,
        answer=str(content.get("answer") or ""),
        response=str(content.get("response") or ""),
        continuations=asked if isinstance(asked, int) else round(max(step.sampled for step in parsed)),
        steps=parsed,
    )


def as_annotated(
    record: Record, name: str, images: Sequence[Image], encoder: Encoder, separator: str, closed: bool
) -> Annotated:
    """The record as something that the MPRM learns from.

    See `rewards.models.encoding` for its tokens.

    Args:
        record: What `parse_record` gave.
        name: Names it in messages, and is its prompt's id.
        images: Its images, loaded.
        encoder: Of the model that learns.
        separator: Text between steps; see `rewards.models.step_rule.StepRule.between`.
        closed: Whether the last step ends with a separator, too, because an answer follows it.

    Raises:
        UnusableRecordError: The checkpoint has no tokens for a step, or its text stands for an image.
    """
    question = record.question.replace(PLACEHOLDER, "").strip()
    texts = [step.text for step in record.steps]
    try:
        rollout = rollout_of_steps(name, question, texts, encoder, separator, closed, record.response)
    except ValueError as error:
        raise UnusableRecordError(str(error)) from None
    counts = StepCounts(
        np.array([step.correct for step in record.steps]), np.array([step.sampled for step in record.steps]), -1
    )
    return Annotated(Prompt(name, "", question, tuple(images), record.answer), rollout, counts)


def _of_conversation(turns: Any) -> dict[str, Any]:
    """Question, response and steps of a training record."""
    try:
        said = [turn["value"] for turn in turns if turn.get("from") != "system"]
        question, texts, labels = _of_markers(*said) if isinstance(said[1], list) else _of_turns(said)
        scored = [{"step": text.strip(), "score": label} for text, label in zip(texts, labels, strict=True)]
    except (TypeError, ValueError, LookupError, AttributeError):
        raise UnusableRecordError(
            f"conversations is neither a question with steps that end in {STEP_MARKER} and a list of their scores, nor "
            "a turn for each step, answered with + or -"
        ) from None
    return {"question": question, "response": "\n\n".join(text.strip() for text in texts), "steps_with_score": scored}


def _of_markers(process: str, labels: list[float]) -> tuple[str, list[str], list[float]]:
    """Question, steps and scores of a training record of published BIS."""
    question, steps = CONVERSATION.fullmatch(process).groups()  # type: ignore[union-attr]
    return question, steps.split(STEP_MARKER)[:-1], labels


def _of_turns(said: Sequence[str]) -> tuple[str, list[str], list[float]]:
    """Question, steps and labels of one of VisualPRM's."""
    question, first = OPENING.fullmatch(said[0]).groups()  # type: ignore[union-attr]
    return question, [first, *said[2::2]], [VERDICTS[verdict] for verdict in said[1::2]]


def _step(number: int, step: Any) -> ScoredStep:
    if not isinstance(step, dict):
        raise UnusableRecordError(f"step {number} is not an object")
    text = step.get("step")
    if not isinstance(text, str) or not text.strip():
        raise UnusableRecordError(f"step {number} has no text")
    try:
        score, correct, sampled = (_number(step.get(key)) for key in ("score", "num_mc_correct", "num_mc_total"))
    except (TypeError, ValueError, OverflowError):
        raise UnusableRecordError(f"step {number} has a score or count that is no number") from None
    if correct is None or sampled is None:
        correct, sampled = (0.0, 0.0) if score is None else (score, 1.0)
    if not 0 <= correct <= sampled < inf:
        raise UnusableRecordError(f"step {number} has {correct:g} right of {sampled:g}")
    return ScoredStep(text, correct, sampled)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not isfinite(number):
        raise ValueError("not finite")
    return number


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value
