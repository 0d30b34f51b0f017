"""A recorded stream, read back: see `rl.monitoring.recording` for what is in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from rewards.annotation.annotator import Continuation
from rewards.files.images import image_path, load_images
from rewards.files.record_files import check_present, read_table, record_of_row
from rewards.records import Annotated, Prompt, StepScores
from rl.errors import ConfigError
from rl.monitoring.recording import (
    HELDOUT,
    IMAGES,
    STEP,
    STREAM,
    STREAM_SCHEMA,
    file_name,
    stream_files,
)

Made = TypeVar("Made")

NO_PROMPT = Prompt("", "", "", (), "")
"""Where nobody reads it."""
IMAGE_FILE = re.compile(rf"{IMAGES}/[0-9a-f]+\.png")


@dataclass(frozen=True)
class RecordedRollout:
    """A row of the stream: a rollout of K steps, and what was known of it.

    Attributes:
        entry: Prompt, rollout and counts; no counts (0,) if it was not labelled.
        annotated: Whether it was.
        scores: What the run's MPRM said at the time.
        continuations: All continuations from the end of each step, in sampling order (K); none if it was not labelled.
        informative: The selector's score, NaN where there is none.
        kept: Whether the buffer kept it at the end of its own offer.
        truth: Whether each step is right, after only right ones (K,); empty if nobody knows it.
        truth_own: Whether each step is right on its own (K,), likewise.
        truth_kinds: What fixes each step's place (K), likewise; see `rl.tasks.task.StepTruth`.
        step_texts: What each step says (K).
    """

    entry: Annotated
    annotated: bool
    scores: StepScores
    continuations: tuple[tuple[Continuation, ...], ...]
    informative: float
    kept: bool
    truth: np.ndarray
    truth_own: np.ndarray
    truth_kinds: tuple[str, ...]
    step_texts: tuple[str, ...]


@dataclass(frozen=True)
class Stream:
    """A recorded stream; its files are read when they are asked for.

    Attributes:
        folder: Where it is.
        steps: The recorded policy steps, one after the other.
        evaluations: The policy steps after which there was a held-out evaluation, 0 for before the first.
    """

    folder: Path
    steps: tuple[int, ...]
    evaluations: tuple[int, ...]

    def step(self, step: int, places: Sequence[int] | None = None) -> list[RecordedRollout]:
        """All rollouts of a policy step, or those at some places among them.

        Raises:
            ConfigError: The file is damaged or something else, or an image is.
        """
        return self._rollouts(STEP, step, self._table(STEP, step), places)

    def columns(self, step: int, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """Some columns alone of all rollouts of a policy step, a tuple a rollout: what takes no time to read.

        Raises:
            ConfigError: The file is damaged or something else.
        """
        table = self._table(STEP, step)
        return list(zip(*(table[name].to_pylist() for name in names), strict=True))

    def heldout(self, step: int, most: int | None = None) -> list[RecordedRollout]:
        """The answers of the held-out evaluation after a policy step; the first ``most`` of them, or all.

        Raises:
            ConfigError: As above.
        """
        table = self._table(HELDOUT, step)
        return self._rollouts(HELDOUT, step, table, range(table.num_rows)[:most])

    def check(self, vocabulary: int, placeholders: Set[int], check_question: Callable[[Prompt], None]) -> None:
        """Whether a policy of so many tokens can have written all of it; images are named, not opened.

        Args:
            vocabulary: How many tokens there are; they count from 0.
            placeholders: Those among them that stand for images, and so in no answer.
            check_question: Raises what the policy cannot be asked.

        Raises:
            ConfigError: Row and column are named.
        """

        def check_row(row: Mapping[str, Any], step: int) -> None:
            for file in row["image_files"]:
                self._image(file)
            check_question(Prompt(row["prompt_id"], row["prompt_source"], row["question"], (), row["answer"]))
            for token in _recorded(row, NO_PROMPT, step).entry.rollout.token_ids:
                if token >= vocabulary or token in placeholders:
                    raise ValueError(f"token_ids has {token}: allowed are those of an answer of this policy")

        for kind, steps in ((STEP, self.steps), (HELDOUT, self.evaluations)):
            for step in steps:
                table = self._table(kind, step)
                self._each(kind, step, table, range(table.num_rows), check_row)

    def _rollouts(
        self, kind: str, step: int, table: pa.Table, places: Sequence[int] | None = None
    ) -> list[RecordedRollout]:
        prompts: dict[str, Prompt] = {}

        def rollout(row: Mapping[str, Any], step: int) -> RecordedRollout:
            name = row["prompt_id"]
            if name not in prompts:
                images = load_images(self._image(file) for file in row["image_files"])
                prompts[name] = Prompt(name, row["prompt_source"], row["question"], images, row["answer"])
            return _recorded(row, prompts[name], step)

        return self._each(kind, step, table, range(table.num_rows) if places is None else places, rollout)

    def _each(
        self,
        kind: str,
        step: int,
        table: pa.Table,
        places: Sequence[int],
        make: Callable[[Mapping[str, Any], int], Made],
    ) -> list[Made]:
        """What is made of some rows of a file."""
        made = []
        for place in places:
            try:
                [row] = table.slice(place, 1).to_pylist()
                made.append(make(row, step))
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{self._path(kind, step)}: row {place}: {error}") from None
        return made

    def _path(self, kind: str, step: int) -> Path:
        return self.folder / file_name(kind, step)

    def _table(self, kind: str, step: int) -> pa.Table:
        path = self._path(kind, step)
        try:
            table = read_table(path, STREAM_SCHEMA, "recorded rollouts")
        except ValueError as error:
            raise ConfigError(str(error)) from None
        try:
            check_present(table)
        except (ValueError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from None
        return table

    def _image(self, name: str) -> Path:
        if not IMAGE_FILE.fullmatch(name):
            raise ValueError(f"image file {name!r}; allowed is {IMAGES}/SHA256.png")
        return image_path(self.folder, name)


def open_stream(folder: Path) -> Stream:
    """The stream of a run; ``folder`` is the run's, or the stream's itself.

    Raises:
        ConfigError: There is none, or a policy step in its middle is missing.
    """
    if (folder / STREAM).is_dir():
        folder = folder / STREAM
    files = stream_files(folder)
    steps = tuple(step for step, kind in files if kind == STEP)
    if not steps:
        raise ConfigError(f"{folder}: holds no recorded stream; a run with `record: true` writes one")
    missing = next((step + 1 for step, following in pairwise(steps) if following > step + 1), None)
    if missing is not None:
        raise ConfigError(f"{folder}: policy step {missing} is missing between {steps[0]} and {steps[-1]}")
    return Stream(folder, steps, tuple(step for step, kind in files if kind == HELDOUT))


def _recorded(row: Mapping[str, Any], prompt: Prompt, step: int) -> RecordedRollout:
    """A row of the file of a policy step, given its prompt.

    Raises:
        ValueError: No run has recorded it.
    """
    entry = record_of_row(row, prompt)
    if [*map(len, row["continuations"])] != [*map(len, row["continuation_tokens"])]:
        raise ValueError("continuations and continuation_tokens: allowed are as many of each for every step")
    drawn = zip(row["continuations"], row["continuation_tokens"], strict=True)
    recorded = RecordedRollout(
        entry=entry,
        annotated=row["annotated"],
        scores=StepScores(np.array(row["scores"], dtype=float), row["mprm_version"]),
        continuations=tuple(
            tuple(Continuation(*sample, entry.counts.policy_version) for sample in zip(*step, strict=True))
            for step in drawn
        ),
        informative=np.nan if row["informative"] is None else row["informative"],
        kept=row["kept"],
        truth=np.array(row["truth"], dtype=bool),
        truth_own=np.array(row["truth_own"], dtype=bool),
        truth_kinds=tuple(row["truth_kinds"]),
        step_texts=tuple(row["step_texts"]),
    )
    _check_lengths(recorded)
    _check_numbers(recorded, row, step)
    return recorded


def _check_lengths(recorded: RecordedRollout) -> None:
    """Whether each list has one entry a step, or none where it may have none."""
    steps = len(recorded.entry.rollout.steps)
    counted = steps if recorded.annotated else 0
    for name, length, allowed in (
        ("correct", len(recorded.entry.counts.correct), (counted,)),
        ("sampled", len(recorded.entry.counts.sampled), (counted,)),
        ("continuations", len(recorded.continuations), (counted,)),
        ("scores", len(recorded.scores.scores), (0, steps)),
        ("step_texts", len(recorded.step_texts), (steps,)),
        ("truth", len(recorded.truth), (0, steps)),
        ("truth_own", len(recorded.truth_own), (len(recorded.truth),)),
        ("truth_kinds", len(recorded.truth_kinds), (len(recorded.truth),)),
    ):
        if length not in allowed:
            raise ValueError(
                f"{name} has {length} entries for the {steps} steps of a rollout of {recorded.entry.prompt.id!r}; "
                f"allowed is {allowed[-1]}"
            )


def _check_numbers(recorded: RecordedRollout, row: Mapping[str, Any], step: int) -> None:
    """Whether its numbers are such as a run has after so many policy steps."""
    if row["step"] != step:
        raise ValueError(f"step is {row['step']}: allowed in this file is {step}")
    if min(row["group"], row["mprm_version"]) < 0:
        raise ValueError("group, mprm_version: allowed are whole numbers from 0 on")
    if not all(0 <= row[name] <= step for name in ("policy_version", "counts_version")):
        raise ValueError(f"policy_version, counts_version: allowed in this file are 0 to {step}")
    if any(sample.tokens < 0 for samples in recorded.continuations for sample in samples):
        raise ValueError("continuation_tokens: allowed are whole numbers from 0 on")
    if not np.isfinite(row["outcome"]):
        raise ValueError(f"outcome is {row['outcome']}: allowed is a finite number")
    if not all(0 <= score <= 1 for score in row["scores"]):
        raise ValueError("scores: allowed are numbers from 0 to 1")
