"""What the offline tool does with one part of a corpus at a time, here or in worker processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rewards.users_code import UsersCodeError
from selection.bis import step_statistics
from selection.candidates import Candidates
from selection.offline.corpus import (
    BlankLine,
    BrokenLine,
    Part,
    read_evidence,
)
from selection.offline.training_records import LeftOut, TrainingRecord, training_record
from selection.selectors import Selector, apply_selector

NO_SELECTOR_SCORE = "the selector gives it no score"


class SelectionError(Exception):
    """The selection cannot be made; the message says why, in one line."""


@dataclass(frozen=True)
class Scoring:
    """How rollouts get their scores.

    Attributes:
        name: The selector's, for messages.
        selector: Gives the scores. It sees the rollouts of one part of a file at a time.
        counts: It sees ``num_mc_correct`` of ``num_mc_total`` continuations. Otherwise each step's ``score``, as if of
            one continuation: published BIS works on that.
        keep_nan: A score that is not a number counts and ranks as Python's ``sort`` has it, as in published BIS.
            Otherwise the rollout is not scorable.
        seed: Of selectors that choose at random.
    """

    name: str
    selector: Selector
    counts: bool = False
    keep_nan: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Scored:
    """The scorable rollouts of a part (B,).

    Attributes:
        part: Which part.
        offsets: Where their lines begin, in bytes of the file (B,).
        lines: Their lines' places in the part (B,), from 0.
        scores: What they are worth (B,).
        mixture, reliability: BIS's, single precision (B,); None unless asked for.
        line_count, records: Lines of the part, and those that are not blank.
        not_scorable: Reasons, with the number of records.
        broken: Line's place in the part and reason of the first broken lines.
        broken_count: Broken lines.
    """

    part: Part
    offsets: np.ndarray
    lines: np.ndarray
    scores: np.ndarray
    mixture: np.ndarray | None
    reliability: np.ndarray | None
    line_count: int
    records: int
    not_scorable: Counter[str]
    broken: list[tuple[int, str]]
    broken_count: int


@dataclass(frozen=True)
class Chosen:
    """Chosen rollouts of a file (C,): its plain lines and its place in the corpus, where their lines begin, numbers of
    those lines from 1, scores."""

    file: Path
    content: Path
    place: int
    offsets: np.ndarray
    lines: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Converted:
    """Chosen rollouts as a block of output, how many they are, and how many were left out, by reason."""

    chosen: Chosen
    block: Any
    written: int
    left_out: Counter[str]


def score_part(scoring: Scoring, for_plot: bool, part: Part) -> Scored:
    """First pass: the scores of a part, and BIS's statistics where a plot needs them.

    Raises:
        SelectionError: The selector failed.
    """
    evidence = read_evidence(part, scoring.counts)
    lengths, correct = np.array(evidence.lengths), np.array(evidence.correct)
    if scoring.counts:
        sampled = np.array(evidence.sampled)
    else:
        # A label is positive if its score is above 0; what is not (NaN too) adds nothing to any sum.
        correct, sampled = np.where(correct > 0, correct, 0.0), np.ones(len(correct))
    generator = np.random.default_rng([scoring.seed, part.place, part.number])
    candidates = Candidates(lengths, correct, sampled, generator=generator)
    with np.errstate(all="ignore"):
        scores = _scores(scoring, candidates)
        statistics = step_statistics(candidates) if for_plot else None
    kept = np.full(len(scores), True) if scoring.keep_nan else ~np.isnan(scores)
    if not kept.all():
        evidence.not_scorable[NO_SELECTOR_SCORE] += int((~kept).sum())
    return Scored(
        part,
        np.array(evidence.offsets)[kept],
        np.array(evidence.lines)[kept],
        scores[kept],
        statistics.mixture[kept].astype(np.float32) if statistics else None,
        statistics.reliability[kept].astype(np.float32) if statistics else None,
        evidence.line_count,
        evidence.records,
        evidence.not_scorable,
        evidence.broken,
        evidence.broken_count,
    )


def convert_chosen(
    convert: Callable[[TrainingRecord, Chosen, int], Any], pack: Callable[[list[Any]], Any], chosen: Chosen
) -> Converted:
    """Second pass: chosen rollouts as a block of output.

    Args:
        convert: Makes a piece of a record that is the i-th of the chosen ones.
        pack: Makes a block of the pieces.
        chosen: Whose lines to read.

    Raises:
        SelectionError: A line is no longer what the first pass saw.
    """
    pieces: list[Any] = []
    left_out: Counter[str] = Counter()
    with chosen.content.open("rb") as file:
        for index, offset in enumerate(chosen.offsets.tolist()):
            try:
                file.seek(offset)
                line = file.readline()
                # Several lines if they end with \r alone.
                line = line.splitlines(keepends=True)[0] if b"\r" in line else line
                pieces.append(convert(training_record(line), chosen, index))
            except LeftOut as error:
                left_out[str(error)] += 1
            except (BlankLine, BrokenLine) as error:
                raise SelectionError(f"{chosen.file}:{chosen.lines[index]}: changed while it was read") from error
    return Converted(chosen, pack(pieces), len(pieces), left_out)


def _scores(scoring: Scoring, candidates: Candidates) -> np.ndarray:
    if len(candidates) == 0:
        return np.zeros(0)
    try:
        return apply_selector(f"--selector {scoring.name}", scoring.selector, candidates)
    except UsersCodeError as error:
        raise SelectionError(str(error)) from error
