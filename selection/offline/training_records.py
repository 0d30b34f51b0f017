"""From an annotation record to what a process reward model trains on, as published with BIS: arXiv 2602.04145."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from selection.offline.corpus import number, parse, parse_plainly

NO_IMAGE, NO_STEPS, EMPTY_STEP, NO_TEXT, NO_SCORE, NOT_UTF8 = (
    "no image",
    "no step",
    "a step with no text",
    "a step whose text is no string",
    "a step with no numeric score",
    "a text that UTF-8 cannot hold",
)


class LeftOut(ValueError):  # noqa: N818 - what becomes of the record, not what went wrong
    """The record cannot be trained on; the message says why."""


class ScoredStep(msgspec.Struct, gc=False):
    """What the second pass reads of a step: anything that JSON can hold."""

    step: Any = None
    score: Any = None


class AnnotationRecord(msgspec.Struct, gc=False):
    """What the second pass reads of a record."""

    step_kind: ClassVar = ScoredStep
    image: Any = None
    question: Any = None
    question_orig: Any = None
    steps_with_score: list[ScoredStep] = []


class UsualStep(msgspec.Struct, gc=False):
    """A step as nearly all of them are."""

    step: str
    score: float


class UsualRecord(msgspec.Struct, gc=False):
    """A record as nearly all of them are: it is read in half the time, as nothing in it has to be asked what it is."""

    image: str
    steps_with_score: list[UsualStep]
    question: str | None = None
    question_orig: str | None = None


@dataclass(frozen=True)
class TrainingRecord:
    """One rollout of K steps to train on.

    Attributes:
        image: The record's image, as it was given: a path, as a rule.
        question: ``question_orig``, or else ``question``, without white space around it.
        human: What the model is shown: ``Question: Q\\nProcess: S1<prm>\\n\\nS2<prm>``.
        labels: 1.0 for a step whose score is above 0, else 0.0 (K,).
    """

    image: Any
    question: str
    human: str
    labels: list[float]


def training_record(line: bytes) -> TrainingRecord:
    """The training record of an annotation line that could be scored.

    Raises:
        LeftOut: It has no image, no steps, or a step without text or score.
        BlankLine, BrokenLine: It could not have been scored.
    """
    try:
        return _usual_record(line)
    except (ValueError, RecursionError):
        return _any_record(line)


def _usual_record(line: bytes) -> TrainingRecord:
    """The training record of an annotation line, once scored, without anything odd about it.

    Raises:
        ValueError, RecursionError: There is something.
    """
    record = _read_usual(line)
    texts = [step.step.strip() for step in record.steps_with_score]
    if not (record.image and texts and all(texts)):
        raise ValueError("something is empty")
    question = (record.question_orig or record.question or "").strip()
    labels = [1.0 if step.score > 0 else 0.0 for step in record.steps_with_score]
    return _assemble(record.image, question, texts, labels)


def _any_record(line: bytes) -> TrainingRecord:
    record = parse(line, AnnotationRecord)
    if not all(
        value is None or isinstance(value, str) for value in (record.image, record.question, record.question_orig)
    ):
        # What is no string is written out, too, and only Python's own reading writes whole numbers of any length.
        record = parse_plainly(line, AnnotationRecord)
    if not record.image:
        raise LeftOut(NO_IMAGE)
    if not record.steps_with_score:
        raise LeftOut(NO_STEPS)
    question = str(record.question_orig or record.question or "").strip()
    texts = [_text(step) for step in record.steps_with_score]
    return _assemble(record.image, question, texts, [_label(step) for step in record.steps_with_score])


def _assemble(image: Any, question: str, texts: list[str], labels: list[float]) -> TrainingRecord:
    process = "<prm>\n\n".join(texts)
    return TrainingRecord(image, question, f"Question: {question}\nProcess: {process}<prm>", labels)


def _text(step: ScoredStep) -> str:
    text = step.step or ""
    if not isinstance(text, str):
        raise LeftOut(NO_TEXT)
    text = text.strip()
    if not text:
        raise LeftOut(EMPTY_STEP)
    return text


def _label(step: ScoredStep) -> float:
    try:
        score = number(step.score)
    except OverflowError:
        score = None
    if score is None:
        raise LeftOut(NO_SCORE)
    return 1.0 if score > 0 else 0.0


_read_usual = msgspec.json.Decoder(UsualRecord).decode
