"""Annotated corpora on disk: JSON lines in VisualPRM400K's format, read in parts.

One record a line: ``image, question, question_orig, steps_with_score: [{step, score, num_mc_correct, num_mc_total}]``.
A score may be a numeric string; the counts are optional. What a line says is what Python's ``json`` reads in it, white
space around it apart; msgspec reads it where the two agree, and builds only the fields that are asked for.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, filterfalse, repeat
from math import inf
from operator import contains
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

PART_BYTES, BLOCK_BYTES, BUFFER_BYTES = 2**23, 2**18, 2**17
"""Small blocks live in memory that is used again and again: larger ones take twice as long."""
REMEMBERED = 10
"""Broken lines that are kept with their reasons; further ones are only counted."""

NO_SCORE = "no step with a numeric score"
NO_COUNTS = "a step without num_mc_correct and num_mc_total"
IMPOSSIBLE_COUNTS = "counts that cannot be"


class BlankLine(Exception):  # noqa: N818 - not an error: blank lines are passed over
    """The line holds white space only."""


class BrokenLine(ValueError):  # noqa: N818 - named for the user's sake
    """The line is no annotation record; the message says why."""


class NotScorable(ValueError):  # noqa: N818
    """The record has no evidence for a selector; the message says what is missing."""


class StepScore(msgspec.Struct, gc=False):
    """What the first pass reads of a step for its score: anything that JSON can hold, None where it is missing."""

    score: Any = None


class RecordedCounts(msgspec.Struct, gc=False):
    """The same for its counts."""

    num_mc_correct: Any = None
    num_mc_total: Any = None


class RolloutScores(msgspec.Struct, gc=False):
    """What the first pass reads of a record for its scores."""

    step_kind: ClassVar = StepScore
    steps_with_score: list[StepScore] = []


class RolloutCounts(msgspec.Struct, gc=False):
    """The same for its counts."""

    step_kind: ClassVar = RecordedCounts
    steps_with_score: list[RecordedCounts] = []


Record = TypeVar("Record")
"""A kind of msgspec.Struct with the fields to read, the default of each, and the ``step_kind`` of its steps."""


@dataclass(frozen=True)
class Part:
    """The lines of a file that begin at a byte in ``start <= byte < end``: what one worker reads at a time.

    Attributes:
        content: The file's lines in plain text; see `rewards.files.plain_text.plain_lines`.
        place: The file's place among the files of the corpus.
        number: The part's place in the file.
        start, end: Bytes.
    """

    content: Path
    place: int
    number: int
    start: int
    end: int


@dataclass
class RecordedEvidence:
    """The Monte-Carlo evidence of the B scorable rollouts of a part, S steps in all.

    Attributes:
        offsets: Where each rollout's line begins, in bytes of the file (B,).
        lines: Its line's place in the part (B,), from 0.
        lengths: Its steps (B,).
        correct: Right continuations of each step, or its score where scores are read (S,).
        sampled: Finished continuations of each step (S,); empty where scores are read.
        line_count: Lines of the part, blank ones included.
        records: Lines that are not blank.
        not_scorable: Reasons, with the number of records.
        broken: Line's place in the part and reason of the first broken lines.
        broken_count: Broken lines.
    """

    offsets: array[int] = field(default_factory=lambda: array("q"))
    lines: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    correct: array[float] = field(default_factory=lambda: array("d"))
    sampled: array[float] = field(default_factory=lambda: array("d"))
    line_count: int = 0
    records: int = 0
    not_scorable: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[int, str]] = field(default_factory=list)
    broken_count: int = 0


def split(content: Path, place: int) -> list[Part]:
    """The parts of a file, in order; at least one. They depend on the file's size alone, not on who reads them."""
    size = content.stat().st_size
    number = max(1, -(-size // PART_BYTES))
    edges = [*range(0, number * PART_BYTES, PART_BYTES), size]
    return [Part(content, place, i, edges[i], edges[i + 1]) for i in range(number)]


def read_evidence(part: Part, counts: bool) -> RecordedEvidence:
    """What the selectors need of one part.

    Args:
        part: Which lines.
        counts: Read ``num_mc_correct`` and ``num_mc_total`` of every step. Otherwise ``score``, as published: steps
            without a numeric score are passed over.
    """
    evidence = RecordedEvidence()
    for offset, block in _blocks(part):
        try:
            _add_block(evidence, offset, block, counts)
        except (ValueError, TypeError, OverflowError, RecursionError):
            # Something in it is unusual. Which line, and what becomes of it, is found line by line.
            _add_lines(evidence, offset, block, counts)
    return evidence


def parse(line: bytes, kind: Callable[..., Record]) -> Record:
    """What a line says, as far as ``kind`` asks for it.

    Raises:
        BlankLine: It says nothing.
        BrokenLine: It is not UTF-8, not JSON, no object, or its steps are no list of objects.
    """
    try:
        _check_utf8(line)
        return _decoder(kind).decode(line)
    except (ValueError, RecursionError):
        return parse_plainly(line, kind)


def parse_plainly(line: bytes, kind: Any) -> Any:
    """`parse` by Python's ``json`` alone: it also knows NaN, lone surrogates, and whole numbers of any length."""
    try:
        text = line.decode().strip()
        content = json.loads(text) if text else None
    except UnicodeDecodeError as error:
        raise BrokenLine(f"not UTF-8: {error.reason} at byte {error.start + 1} of the line") from error
    except json.JSONDecodeError as error:
        raise BrokenLine(f"not JSON: {error.msg} at character {error.pos + 1}") from error
    except (ValueError, RecursionError) as error:
        raise BrokenLine(f"not readable: {error}") from error
    if not text:
        raise BlankLine
    if not isinstance(content, dict):
        raise BrokenLine("not a JSON object")
    steps = content.get("steps_with_score") or []
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise BrokenLine("steps_with_score is not a list of objects")
    return _build(kind, content | {"steps_with_score": [_build(kind.step_kind, step) for step in steps]})


def number(value: Any) -> float | None:
    """A score as Python's ``float`` reads it; None for what is no number.

    Raises:
        OverflowError: A whole number that no float can hold.
    """
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _blocks(part: Part) -> Iterator[tuple[int, list[bytes]]]:
    """The part's lines, as far as ``\n`` parts them, some at a time, and where in the file they begin."""
    with part.content.open("rb", buffering=BUFFER_BYTES) as file:
        offset = part.start
        if offset > 0:
            file.seek(offset - 1)
            offset += len(file.readline()) - 1
        while offset < part.end and (block := file.readlines(min(BLOCK_BYTES, part.end - offset))):
            size = sum(map(len, block))
            if offset + size - len(block[-1]) >= part.end:
                size -= len(block.pop())  # it begins the next part
            yield offset, block
            offset += size


def _check_utf8(line: bytes) -> None:
    if not line.isascii():
        line.decode()  # msgspec does not look into the texts that it passes over


def _add_block(evidence: RecordedEvidence, offset: int, block: list[bytes], counts: bool) -> None:
    """Add lines that are all as they should be.

    Raises:
        ValueError, TypeError, OverflowError, RecursionError: Some are not; nothing was added.
    """
    if any(map(contains, block, repeat(b"\r"))):
        raise ValueError("other line ends")
    for line in filterfalse(bytes.isascii, block):
        line.decode()  # msgspec does not look into the texts that it passes over
    kind = RolloutCounts if counts else RolloutScores
    rollouts = [rollout.steps_with_score for rollout in map(_decoder(kind).decode, block)]
    if not all(rollouts):
        raise ValueError("a record without steps")
    # Unlike numpy, an array takes nothing but numbers.
    if counts:
        correct = array("d", [step.num_mc_correct for steps in rollouts for step in steps])
        sampled = array("d", [step.num_mc_total for steps in rollouts for step in steps])
        if not _possible(correct, sampled):
            raise ValueError(IMPOSSIBLE_COUNTS)
        evidence.sampled.extend(sampled)
    else:
        correct = array("d", [step.score for steps in rollouts for step in steps])
    evidence.correct.extend(correct)
    evidence.lengths.extend(map(len, rollouts))
    evidence.offsets.extend(accumulate(map(len, block[:-1]), initial=offset))
    evidence.lines.extend(range(evidence.line_count, evidence.line_count + len(block)))
    evidence.line_count += len(block)
    evidence.records += len(block)


def _add_lines(evidence: RecordedEvidence, offset: int, block: list[bytes], counts: bool) -> None:
    # As in Python's text files a line ends with \n, \r\n or \r.
    for line in b"".join(block).splitlines(keepends=True):
        begin, offset = offset, offset + len(line)
        evidence.line_count += 1
        try:
            if counts:
                correct, sampled = _counts(parse(line, RolloutCounts).steps_with_score)
            else:
                correct, sampled = _scores(parse(line, RolloutScores).steps_with_score), []
        except BlankLine:
            continue
        except BrokenLine as error:
            evidence.broken_count += 1
            if len(evidence.broken) < REMEMBERED:
                evidence.broken.append((evidence.line_count - 1, str(error)))
        except NotScorable as error:
            evidence.not_scorable[str(error)] += 1
        else:
            evidence.offsets.append(begin)
            evidence.lines.append(evidence.line_count - 1)
            evidence.lengths.append(len(correct))
            evidence.correct.extend(correct)
            evidence.sampled.extend(sampled)
        evidence.records += 1


def _scores(steps: list[StepScore]) -> list[float]:
    try:
        scores = [score for step in steps if (score := number(step.score)) is not None]
    except OverflowError as error:
        raise BrokenLine("a score is too large") from error
    if not scores:
        raise NotScorable(NO_SCORE)
    return scores


def _counts(steps: list[RecordedCounts]) -> tuple[Sequence[float], Sequence[float]]:
    try:
        pairs = [(number(step.num_mc_correct), number(step.num_mc_total)) for step in steps]
    except OverflowError as error:
        raise NotScorable(IMPOSSIBLE_COUNTS) from error
    if not pairs or any(None in pair for pair in pairs):
        raise NotScorable(NO_COUNTS)
    correct, sampled = zip(*pairs, strict=True)
    if not _possible(correct, sampled):
        raise NotScorable(IMPOSSIBLE_COUNTS)
    return correct, sampled


def _possible(correct: Sequence[float], sampled: Sequence[float]) -> bool:
    return all(0 <= right <= total < inf for right, total in zip(correct, sampled, strict=True))


@cache
def _decoder(kind: Any) -> Any:
    return msgspec.json.Decoder(kind)


def _build(kind: Any, content: dict[str, Any]) -> Any:
    return kind(**{name: content[name] for name in kind.__struct_fields__ if name in content})
