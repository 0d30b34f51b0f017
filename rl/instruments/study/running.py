"""Cells as Ray tasks, a declared number at a time; each leaves its result as soon as it is there."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from rewards.files.whole_file import opened_here
from rl.errors import ConfigError
from rl.instruments.replay.measuring import CellResult
from rl.instruments.study.results import Finished, read_result, write_result
from rl.instruments.study.study_file import Study
from rl.monitoring.terminal import progress_bar
from rl.workers.ray_cluster import join_ray, leave_ray
from rl.workers.worker import worker_environment

SECONDS_TO_STOP = 60
"""What a command gets to stop, a training run to finish its policy step and write a checkpoint, before it is killed."""


@dataclass(frozen=True)
class Job:
    """A cell, or a recording, to be run.

    Attributes:
        name: For messages, and in the result.
        folder: Its own.
        recipe: A digest of its settings: with another one it is run anew.
        changes: What it changes in the study's experiment; stands in the result.
        work: Runs it, in a process of Ray's.
    """

    name: str
    folder: Path
    recipe: str
    changes: dict[str, Any]
    work: Callable[[], CellResult]

    def finished(self) -> Finished | None:
        """Its result, if it is there and was made by the same recipe."""
        found = read_result(self.folder)
        return found if found is not None and found.recipe == self.recipe else None


def run_jobs(jobs: Sequence[Job], study: Study, what: str) -> dict[str, str]:
    """Run what is not finished, ``study.workers`` at a time; gives the cause of each failure by the job's name.

    A job that fails does not stop the others. On Ctrl-C those under way are stopped, and the finished ones stay.

    Args:
        jobs: To be run, in this order.
        study: How much may be taken.
        what: Names them on the progress bar.

    Raises:
        ConfigError: Ray has not enough for a single one.
        WorkerError: Ray does not start.
        OSError: A result could not be written.
    """
    todo = [job for job in jobs if job.finished() is None]
    failures: dict[str, str] = {}
    if not todo:
        return failures
    done = len(jobs) - len(todo)
    with _ray(study), progress_bar(what, len(jobs), done) as advance, closing(_results(todo, study)) as results:
        for job, seconds, result in results:
            if isinstance(result, str):
                failures[job.name] = result
            else:
                write_result(job.folder, Finished(job.name, job.recipe, job.changes, seconds, result))
            advance(1)
    return failures


def _results(jobs: Sequence[Job], study: Study) -> Generator[tuple[Job, float, CellResult | str]]:
    """Every job with its seconds and its result, or the cause of its failure, as they end."""
    settings = {
        "num_cpus": study.cpus_per_cell,
        "num_gpus": study.gpus_per_cell,
        "runtime_env": {"env_vars": worker_environment(study.gpus_per_cell)},
    }
    waiting, running = list(reversed(jobs)), dict[Any, Job]()
    try:
        while waiting or running:
            while waiting and len(running) < study.workers:
                job = waiting.pop()
                running[_timed.options(**settings).remote(job.work)] = job
            (ended, *_), _ = ray.wait(list(running))
            job = running.pop(ended)
            try:
                seconds, result = ray.get(ended)
                yield job, seconds, result
            except RayTaskError as error:
                cause = error.cause if error.cause is not None else error
                yield job, math.nan, f"{type(cause).__name__}: {' '.join(str(cause).split())}"
            except RayError as error:
                yield job, math.nan, f"its process died: {str(error).strip().splitlines()[0]}"
    finally:
        for task in running:
            ray.cancel(task)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=2 * SECONDS_TO_STOP)


@ray.remote(max_retries=0)
def _timed(work: Callable[[], CellResult]) -> tuple[float, CellResult]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


@contextmanager
def _ray(study: Study) -> Iterator[None]:
    """Ray, for as long as this lasts."""
    join_ray()
    try:
        there = ray.cluster_resources()
        for resource, key in (("CPU", "cpus_per_cell"), ("GPU", "gpus_per_cell")):
            wanted, has = getattr(study, key), there.get(resource, 0)
            if wanted > has:
                raise ConfigError(f"{key} is {wanted:g}: Ray has {has:g} {resource}s here; allowed is at most that")
        yield
    finally:
        leave_ray()


def run_to_its_end(command: Sequence[str], log: Path) -> int:
    """The exit code of a command; one that is interrupted is asked to stop, and killed when it does not."""
    # The Ray of the task that calls this is not for the run: it starts its own, which ends with it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with open(log, "w", encoding="utf-8", opener=opened_here) as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal is for the study, which then stops its runs
            preexec_fn=_end_with_parent,
        )
        try:
            while process.poll() is None:
                # In short waits: Ray's request to stop is not heard inside of a long one.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
            return process.returncode
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(SECONDS_TO_STOP)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _end_with_parent() -> None:
    """Have the kernel ask this process to stop when the one that started it dies, in whatever way (Linux)."""
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGTERM)
