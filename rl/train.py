"""One run from configuration to summary: folder, workers, loop, evaluation, checkpoint."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import ray

from rl.config import Config, ConfigError, load_config, save_config
from rl.console import Console
from rl.evaluating.benchmark_evaluation import read_configured_benchmark
from rl.evaluating.evaluations import Evaluations
from rl.loop import run
from rl.memory import PeakMemory
from rl.monitor import Monitor
from rl.parts import make_parts
from rl.preference_corpus import find_preferences, learn_preferences
from rl.progress import Progress, checkpoints
from rl.warm_start import find_records, warm_start

CONFIG_FILE, SUMMARY_FILE = "config.yaml", "summary.json"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its folder, and the summary if it took all its steps."""

    folder: Path
    step: int
    summary: dict[str, Any] | None


def train(config: Config, folder: Path, resume: bool, console: Console) -> Outcome:
    """Run an experiment to its end, or to the first Ctrl-C or SIGTERM; both leave a checkpoint.

    Args:
        config: The experiment.
        folder: The run folder, from `choose_run_folder`, or an existing one if ``resume``.
        resume: Go on from the folder's newest checkpoint.
        console: The terminal's view.

    Raises:
        ConfigError: A part that the configuration names cannot be made.
        WorkerError: A worker died, raised, or did not answer in time.
        RewardHackingError: The watch has stopped the run; there is a checkpoint.
    """
    began = time.perf_counter()
    # A resumed run's MPRM has had its warm start.
    records = None if resume else find_records(config)
    pairs = None if resume else find_preferences(config)
    benchmark = read_configured_benchmark(config)
    console.say(f"starting {config.engine.count} {config.engine.kind} engine(s), learner and reward model …")
    with PeakMemory() as memory, _stop_on_signal(console) as stopped:
        try:
            parts = make_parts(config, folder)
            _keep_config(config, folder)
            progress = Progress.restore(folder, parts) if resume else Progress(folder)
            monitor = Monitor(folder, config, parts.encoder, console, progress.step)
            evaluations = Evaluations(config, parts, monitor, benchmark)
            if records is not None:
                warm_start(config, records, parts.encoder, partial(parts.mprm.start, "train"), console)
            if pairs is not None and parts.answers.model is not None:
                learn_preferences(config, pairs, parts.encoder, partial(parts.answers.model.start, "train"), console)
            if not progress.start:
                progress.start = evaluations.after(0)
            sitting = progress.seconds
            try:
                run(config, parts, progress, evaluations, monitor, stopped)
                progress.seconds = sitting + time.perf_counter() - began
                progress.save(config, parts)
                if progress.step < config.steps:
                    return Outcome(folder, progress.step, None)
                end = evaluations.after(progress.step)
            finally:
                monitor.close()
            progress.seconds = sitting + time.perf_counter() - began
            summary = _summary(progress, end, parts.buffer.seen, len(parts.buffer), memory.gib)
            (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
            parts.close()
            return Outcome(folder, progress.step, summary)
        finally:
            ray.shutdown()


def choose_run_folder(config: Config) -> Path:
    """The folder of a new run; it is made only once the run's parts are known to exist.

    Raises:
        ConfigError: It holds a run already.
    """
    named = f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = Path(config.output_dir) if config.output_dir else Path("runs") / named
    if (folder / CONFIG_FILE).exists():
        raise ConfigError(f"output_dir: {folder} holds a run already; resume it with --resume, or name another folder")
    return folder


def _keep_config(config: Config, folder: Path) -> None:
    """Make the folder, if it is not there yet, with the configuration as it now is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_config(config, folder / CONFIG_FILE)
    except OSError as error:
        raise ConfigError(f"output_dir: {folder} cannot be made: {error.strerror}") from None


def open_run_folder(folder: Path, overrides: list[str]) -> Config:
    """The configuration of a run to resume.

    Raises:
        ConfigError: It is no run folder, or has no finished checkpoint.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise ConfigError(f"--resume: {folder} is not a run folder: it has no {CONFIG_FILE}")
    if not checkpoints(folder):
        raise ConfigError(f"--resume: {folder} has no finished checkpoint to go on from")
    return load_config(folder / CONFIG_FILE, overrides)


def _summary(progress: Progress, end: dict[str, float], seen: int, kept: int, gib: float) -> dict[str, Any]:
    start = progress.start
    return {
        "steps": progress.step,
        "wall_seconds": round(progress.seconds, 1),
        "peak_memory_gib": round(gib, 2),
        "policy": {"accuracy_start": start["policy/accuracy"], "accuracy_end": end["policy/accuracy"]},
        "mprm": {
            "auc_start": start.get("mprm/auc_within_kind"),
            "auc_end": end.get("mprm/auc_within_kind"),
            "auc_plain_end": end.get("mprm/auc_plain"),
            "auc_index_only_end": end.get("mprm/auc_index_only"),
        },
        "annotation": {
            "continuations": progress.continuations,
            "tokens": progress.tokens,
            "fixed_tokens": round(progress.fixed_tokens),
        },
        "selection": {"seen": seen, "kept": kept},
    }


@contextmanager
def _stop_on_signal(console: Console) -> Iterator[_Flag]:
    """While inside, the first Ctrl-C or SIGTERM asks for a stop after the policy step; the second one kills."""
    flag = _Flag()

    def ask(number: int, frame: FrameType | None) -> None:
        if flag.up:
            raise KeyboardInterrupt
        flag.up = True
        console.say("stopping after this step, with a checkpoint; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Flag:
    up = False

    def __call__(self) -> bool:
        return self.up
