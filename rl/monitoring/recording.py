"""The stream of a run, written down: every rollout, and what was known of it when the loop was done with it.

    RUN/stream/step-000001.parquet       all rollouts of a policy step, a row each
    RUN/stream/heldout-000020.parquet    all answers of the held-out evaluation after a policy step, 0 for before
    RUN/stream/images/SHA256.png         each image once

A file is either whole or not there. Writing one forgets what an interrupted run wrote of later steps, so that a resumed
run's stream holds nothing twice. Rows are `STREAM_SCHEMA`; `rl.instruments.replay.stream` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL.Image import Image

from rewards.files.images import image_digest
from rewards.files.record_files import SCHEMA, record_row, write_table
from rewards.files.whole_file import replacing
from rewards.models.steps import step_texts
from rewards.records import Annotated, Prompt, Rollout, StepCounts, StepScores
from rl.monitoring.report import Labels, Offer
from rl.tasks.task import KnowsSteps, Task
from selection.rows import identity

STREAM, IMAGES = "stream", "images"
STEP, HELDOUT = "step", "heldout"
FILE_NAME = re.compile(rf"({STEP}|{HELDOUT})-([0-9]{{6,12}})\.parquet")

STREAM_SCHEMA = pa.schema(
    [field for field in SCHEMA if field.name != "images"]
    + [
        # The images' paths in the stream's folder, and the policy step, from 1 on; of an evaluation, the steps before.
        pa.field("image_files", pa.list_(pa.string())),
        pa.field("step", pa.int64()),
        # Of each written step: its text, and the MPRM's score at the time; no scores where there is no MPRM.
        pa.field("step_texts", pa.list_(pa.string())),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("mprm_version", pa.int64()),
        # Whether it was labelled; if not, there are no counts and no continuations.
        pa.field("annotated", pa.bool_()),
        # Of each written step, in sampling order: whether each continuation was right (null: cut off), and its tokens.
        pa.field("continuations", pa.list_(pa.list_(pa.bool_()))),
        pa.field("continuation_tokens", pa.list_(pa.list_(pa.int32()))),
        # The selector's score, null where there is none, and whether the buffer kept it at the end of its own offer.
        pa.field("informative", pa.float64()),
        pa.field("kept", pa.bool_()),
        # The truth of each written step (`rl.tasks.task.StepTruth`), for evaluation alone; empty if nobody knows it.
        pa.field("truth", pa.list_(pa.bool_())),
        pa.field("truth_own", pa.list_(pa.bool_())),
        pa.field("truth_kinds", pa.list_(pa.string())),
    ]
)


class Recording:
    """Writes a run's stream.

    Args:
        folder: Of the stream.
        task: Asked for the truth of steps, if it knows: a recorded truth is read by evaluations alone.
        decode: From completion tokens to text.
    """

    def __init__(self, folder: Path, task: Task, decode: Callable[[Sequence[int]], str]) -> None:
        self._folder, self._task, self._decode = folder, task, decode

    def step(self, now: int, labels: Labels, offer: Offer) -> None:
        """Write all rollouts of the policy step that has its labels, and what was made of those that were labelled, in
        policy step ``now``, counted from 1.

        Raises:
            OSError: They cannot be written.
        """
        step, batch = labels.step + 1, labels.batch
        rows = self._rows(step, batch.prompts, batch.rollouts, labels.scores)
        kept = {identity(entry) for entry in offer.kept}
        for place, entry, continuations, informative in zip(
            labels.places, labels.annotated, labels.continuations, offer.informative.tolist(), strict=True
        ):
            rows[place] |= record_row(entry) | {
                "annotated": True,
                "continuations": [[sample.right for sample in samples] for samples in continuations],
                "continuation_tokens": [[sample.tokens for sample in samples] for samples in continuations],
                "informative": None if np.isnan(informative) else informative,
                "kept": identity(entry) in kept,
            }
        self._write(STEP, step, now, rows)

    def heldout(
        self, step: int, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], scores: Sequence[StepScores]
    ) -> None:
        """Write all answers of the held-out evaluation after policy step ``step``.

        Raises:
            OSError: They cannot be written.
        """
        self._write(HELDOUT, step, step, self._rows(step, prompts, rollouts, scores))

    def _rows(
        self, step: int, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], scores: Sequence[StepScores]
    ) -> list[dict[str, Any]]:
        files = {prompt.id: prompt for prompt in prompts}
        stored = {name: [self._store(image) for image in prompt.images] for name, prompt in files.items()}
        return [
            self._row(step, prompt, rollout, scored) | {"image_files": stored[prompt.id]}
            for prompt, rollout, scored in zip(prompts, rollouts, scores, strict=True)
        ]

    def _row(self, step: int, prompt: Prompt, rollout: Rollout, scored: StepScores) -> dict[str, Any]:
        texts = [text.strip() for text in step_texts(rollout, self._decode)]
        truths = self._task.step_truth(prompt, texts) if isinstance(self._task, KnowsSteps) else []
        nothing = StepCounts(np.zeros(0), np.zeros(0), rollout.policy_version)
        return record_row(Annotated(prompt, rollout, nothing)) | {
            "step": step,
            "step_texts": texts,
            "scores": scored.scores.tolist(),
            "mprm_version": scored.mprm_version,
            "annotated": False,
            "continuations": [],
            "continuation_tokens": [],
            "informative": None,
            "kept": False,
            "truth": [truth.so_far for truth in truths],
            "truth_own": [truth.own for truth in truths],
            "truth_kinds": [truth.kind for truth in truths],
        }

    def _store(self, image: Image) -> str:
        """The image's path in the folder, where it is now."""
        name = f"{IMAGES}/{image_digest(image)}.png"
        path = self._folder / name
        if not path.exists():
            self._make_folders()
            with replacing(path) as partial:
                image.save(partial, format="PNG")
        return name

    def _write(self, kind: str, step: int, now: int, rows: Sequence[dict[str, Any]]) -> None:
        for (number, other), path in stream_files(self._folder).items():
            # The evaluation after policy step ``now`` follows whatever is written in it.
            if number > step if other == STEP else number >= now:
                path.unlink()
        self._make_folders()
        write_table(pa.Table.from_pylist(list(rows), STREAM_SCHEMA), self._folder / file_name(kind, step))

    def _make_folders(self) -> None:
        """Inside of the run's. Where that is gone, somebody has moved it: half a run is not to begin in its place."""
        self._folder.mkdir(exist_ok=True)
        (self._folder / IMAGES).mkdir(exist_ok=True)


def file_name(kind: str, step: int) -> str:
    """Of a file of the stream.

    >>> file_name(HELDOUT, 20)
    'heldout-000020.parquet'
    """
    return f"{kind}-{step:06}.parquet"


def stream_files(folder: Path) -> dict[tuple[int, str], Path]:
    """The files of a stream by policy step and kind (`STEP` or `HELDOUT`), in the order of both."""
    found = {}
    for path in folder.glob("*.parquet"):
        if match := FILE_NAME.fullmatch(path.name):
            found[int(match[2]), match[1]] = path
    return dict(sorted(found.items()))
