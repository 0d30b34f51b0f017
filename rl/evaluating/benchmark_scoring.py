"""A reward model's scores of a whole benchmark, in a file that grows, so that a killed evaluation can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from rewards.files.held_folder import scratch_folder
from rewards.files.images import UnreadableImageError, check_images
from rewards.measuring.process_benchmark import Bench, BenchmarkError, Solution, benchmark_files, read_benchmark
from rewards.measuring.process_report import split
from rewards.measuring.process_scores import ScoredSolution, read_scores, scores_line
from rewards.measuring.process_scoring import as_rollouts, score_solutions
from rewards.models.encoding import Encoder
from rewards.models.runtime import Runtime
from rewards.models.steps import Markers
from rewards.process_model.config import MPRMConfig
from rewards.process_model.mprm import MPRM, open_mprm
from rewards.process_model.saved import MPRM_FILE
from rl.config.sections import TaskConfig
from rl.errors import ConfigError
from rl.files.chunked_file import JOURNAL_SUFFIX, ChunkedFile
from rl.files.named_checkpoint import checkpoint_digest, files_digest
from rl.monitoring.terminal import progress_bar, waiting

Identity = dict[str, str | None]


@dataclass(frozen=True)
class ModelOptions:
    """Which model scores, and how; `rl.commands.eval_prm` describes each field."""

    checkpoint: str
    head: str | None
    format: str | None
    separator: str
    batch_size: int
    batch_tokens: int
    dtype: str
    trust_remote_code: bool


@dataclass(frozen=True)
class BenchmarkOrder:
    """What to score, and where to; `rl.commands.eval_prm` describes each field."""

    bench: Bench
    path: Path
    model: ModelOptions
    tune_on: str | None
    json: Path | None
    save_scores: Path | None


@dataclass(frozen=True)
class ScoredChunk:
    """How many solutions a chunk of the file has."""

    solutions: Annotated[int, Meta(ge=1)]


@contextmanager
def benchmark_scores(order: BenchmarkOrder) -> Iterator[list[ScoredSolution]]:
    """The scores of all solutions of a benchmark.

    They are written to ``save_scores`` as they are made, and only those that are missing there are made. Without it
    they go to a hidden file beside ``json``, which is removed when the block ends well, and without that to one that
    is always removed.

    Raises:
        BenchmarkError: The benchmark or the checkpoint is wrong, the model cannot read a solution, or ``tune_on`` names
            no part of them.
        ConfigError: The file holds something else.
        RuntimeError, OSError: It failed.
    """
    solutions = _read_solutions(order)
    encoder = _open_encoder(order.model)
    identity = _identity(order, solutions)
    with scratch_folder() as folder:
        path = _scores_path(order, identity, folder)
        file = ChunkedFile(path, identity, ScoredChunk)
        finished = False
        try:
            _score(solutions, encoder, order.model, path, file)
            yield _of_these(solutions, read_scores(order.bench, path), path)
            finished = True
        finally:
            if not file.notes or (finished and order.save_scores is None):
                path.unlink()
                path.with_name(path.name + JOURNAL_SUFFIX).unlink()
            file.close()


def _read_solutions(order: BenchmarkOrder) -> list[Solution]:
    """All of them, once their images can be read and are known to have the part to tune on: no model is open yet."""
    solutions = read_benchmark(order.bench, order.path)
    with progress_bar("solutions looked at", len(solutions), lines=False) as advance:
        for solution in solutions:
            try:
                check_images(solution.images)
            except UnreadableImageError as error:
                raise BenchmarkError(f"{solution.place}: {error}") from None
            advance(1)
    if order.tune_on is not None:
        split(solutions, order.tune_on)
    return solutions


def _score(
    solutions: Sequence[Solution], encoder: Encoder, options: ModelOptions, path: Path, file: ChunkedFile[ScoredChunk]
) -> None:
    done = sum(note.solutions for note in file.notes)
    if done == len(solutions):
        if file.rest:
            raise ConfigError(f"{path} goes on after its last solution: {file.rest} bytes are not from this command")
        return
    rollouts = as_rollouts(solutions, encoder, _separator(options))
    with waiting(f"opening {options.checkpoint}"):
        mprm = _open_mprm(options, encoder)
    with progress_bar("solutions", len(solutions), done) as advance:
        for first in range(done, len(solutions), options.batch_size):
            chunk = slice(first, first + options.batch_size)
            scored = score_solutions(solutions[chunk], rollouts[chunk], mprm.score)
            file.append("".join(map(scores_line, scored)).encode(), ScoredChunk(len(scored)))
            advance(len(scored))


def _of_these(solutions: Sequence[Solution], scored: list[ScoredSolution], path: Path) -> list[ScoredSolution]:
    """The scores, which are those of these solutions.

    Raises:
        ConfigError: They are others'.
    """
    if [solution.labels for solution in solutions] != [tuple(entry.labels.tolist()) for entry in scored]:
        raise ConfigError(f"{path} holds scores of other solutions; name another file")
    return scored


def _scores_path(order: BenchmarkOrder, identity: Identity, folder: Path) -> Path:
    """Where the scores go; see `benchmark_scores`."""
    if order.save_scores is not None:
        return order.save_scores
    if order.json is not None:
        name = blake2b(json.dumps(identity).encode(), digest_size=6).hexdigest()
        return order.json.with_name(f".{order.json.name}.{name}.partial")
    return folder / "scores"


def _open_encoder(options: ModelOptions) -> Encoder:
    task = TaskConfig()
    markers = Markers(task.perception_marker, task.reasoning_marker)
    try:
        return Encoder(options.checkpoint, trust_remote_code=options.trust_remote_code, markers=markers)
    except Exception as error:  # a broken checkpoint can fail in any way
        raise _unreadable(options, error) from None


def _open_mprm(options: ModelOptions, encoder: Encoder) -> MPRM:
    named = {"head": options.head, "input_format": options.format}
    settings = MPRMConfig(
        likelihood=False,
        batch_size=options.batch_size,
        micro_batch_tokens=options.batch_tokens,
        **{key: value for key, value in named.items() if value is not None},  # type: ignore[arg-type]
    )
    runtime = Runtime(options.dtype, len(os.sched_getaffinity(0)), options.trust_remote_code)
    try:
        return open_mprm(str(options.checkpoint), encoder, settings, runtime)
    except Exception as error:  # as above
        raise _unreadable(options, error) from None


def _unreadable(options: ModelOptions, error: Exception) -> BenchmarkError:
    reason = " ".join(str(error).split())
    return BenchmarkError(f"--mprm {options.checkpoint} is no checkpoint that can be read: {reason}")


def _separator(options: ModelOptions) -> str:
    return options.separator.replace(r"\n", "\n").replace(r"\t", "\t")


def _identity(order: BenchmarkOrder, solutions: Sequence[Solution]) -> Identity:
    """What decides the scores, by key: another value, and they are others."""
    model, checkpoint = order.model, order.model.checkpoint
    saved = (Path(checkpoint) / MPRM_FILE).is_file()
    for name, value in (("--head", model.head), ("--format", model.format)):
        if saved and value is not None:
            raise BenchmarkError(f"{name} {value}: {checkpoint} is a saved MPRM, which has its own")
    images = sorted({image for solution in solutions for image in solution.images})
    return {
        "--bench": order.bench,
        "the benchmark's digest": files_digest([*benchmark_files(order.bench, order.path), *images]),
        "the checkpoint's digest": checkpoint_digest(checkpoint),
        "--head": model.head,
        "--format": model.format,
        "--separator": model.separator,
        "--dtype": model.dtype,
    }
