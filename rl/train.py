"""One run from configuration to summary: folder, workers, loop, evaluation, checkpoint."""

from __future__ import annotations

import json
import math
import signal
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

from rewards.files.whole_file import replacing
from rewards.overdue import is_overdue
from rl.checkpoints.checkpoint import Progress
from rl.checkpoints.ledger import Ledger
from rl.checkpoints.recovery import recovering
from rl.checkpoints.run_folder import _keep_config, _take_folder
from rl.config import Config
from rl.config.api_keys import asked_elsewhere
from rl.config.memory_keys import for_worker
from rl.errors import WorkerError
from rl.evaluating.agreement import check_agreement
from rl.evaluating.schedule import Evaluations, read_configured_benchmark
from rl.files.folders import only_one
from rl.files.run_files import SUMMARY_FILE, checkpoints
from rl.loop import run
from rl.monitoring.console import Console
from rl.monitoring.memory import PeakMemory
from rl.monitoring.metrics import finite
from rl.monitoring.monitor import Monitor, open_writers
from rl.parts import Parts, make_parts
from rl.reward_models.record_corpus import Corpus
from rl.reward_models.warm_start import find_preferences, find_records, keep_in_buffer, learn_preferences, warm_start
from rl.tasks.making import unreadable_references
from rl.workers.ray_cluster import leave_ray

SECONDS_OF_ONE_REQUEST = 1
"""`timeout` and batch schedulers send their signal to the process, and once more to all of its group."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its folder, and the summary if it took all its steps."""

    folder: Path
    step: int
    summary: dict[str, Any] | None


def train(config: Config, folder: Path, resume: bool, console: Console) -> Outcome:
    """Run an experiment to its end, or to the first Ctrl-C, SIGTERM or SIGHUP; each leaves a checkpoint.

    A run that loses a worker lets go of all of them and goes on from its newest checkpoint; see
    `rl.checkpoints.recovery`.

    Args:
        config: The experiment.
        folder: The run folder, from `choose_run_folder`, or an existing one if ``resume``.
        resume: Go on from the folder's newest checkpoint.
        console: The terminal's view.

    Raises:
        ConfigError: A part that the configuration names cannot be made.
        WorkerError: A worker raised, or workers were lost more often than `recovery.attempts` allows.
        RewardHackingError: The watch has stopped the run; there is a checkpoint.
        CheckpointError: A checkpoint could not be written.
    """
    ledger = Ledger.open(folder) if resume else Ledger.new(folder)
    # A resumed run's models have had their first lessons.
    records = None if resume else find_records(config)
    pairs = None if resume else find_preferences(config)
    benchmark = read_configured_benchmark(config)
    others = "learner and reward model" if config.places_mprm else "and learner"
    said: list[str] = []
    with PeakMemory() as memory, StopOnSignal(console) as stopped, ExitStack() as others_kept_out:
        if resume:
            others_kept_out.enter_context(only_one(folder))

        def attempt() -> Outcome:
            goes_on = resume or bool(checkpoints(folder))
            try:
                with console.waiting(f"starting {config.engine.count} {config.engine.kind} engine(s), {others}"):
                    parts = make_parts(config, folder)
                if not goes_on:
                    _take_folder(folder, others_kept_out)
                    if line := unreadable_references(config, parts.task):
                        console.say(line)
                _keep_config(config, folder)
                progress = Progress.restore(folder, parts, ledger) if goes_on else Progress(folder, ledger)
                with console.waiting("comparing engines and learner"):
                    check_agreement(config, parts, progress.step)
                step = progress.step if goes_on else None
                writers = open_writers(config, folder, parts.task, step)
                with closing(Monitor(config, parts.encoder, console, writers)) as monitor:
                    evaluations = Evaluations(config, parts, monitor, benchmark)
                    if not goes_on:
                        _first_lessons(config, parts, records, pairs, console)
                        progress.start = evaluations.after(0)
                        progress.save(config, parts)
                    # Now that all of them have started: asked sooner, the run would wait for each.
                    for line in _reading_rows(config, parts):
                        if line not in said:
                            console.say(line)
                            said.append(line)
                    with console.training(config.steps, progress.step):
                        run(config, parts, progress, evaluations, monitor, stopped)
                    progress.save(config, parts)
                    if progress.step < config.steps:
                        return Outcome(folder, progress.step, None)
                    end = evaluations.after(progress.step)
                summary = _summary(progress, end, parts.lessons.buffer.seen, len(parts.lessons.buffer), memory.gib)
                text = json.dumps(summary, indent=2) + "\n"
                with replacing(folder / SUMMARY_FILE) as path:
                    path.write_text(text)
                with suppress(WorkerError):  # everything is written
                    parts.close()
                return Outcome(folder, progress.step, summary)
            finally:
                leave_ray()

        for line in asked_elsewhere(config):
            console.say(line)
        return recovering(attempt, config.recovery.attempts, ledger, console.say, stopped, partial(for_worker, config))


def _reading_rows(config: Config, parts: Parts) -> list[str]:
    """What to say of models that cannot read the rollouts of a prompt in one row, as they were asked to."""
    asked = {
        "learner.pack": parts.learner if config.learner.pack else None,
        "mprm.pack": parts.mprm if config.places_mprm and config.mprm.pack else None,
        "outcome_model.pack": parts.answers.model if config.outcome_model.pack else None,
    }
    own_critic = config.learner.algorithm == "ppo" and config.value.backbone == "own"
    who = {"learner.pack": "policy or value model"} if own_critic else {}
    return [
        f"{key}: {who.get(key, 'this model')} cannot read packed rows; each rollout has one of its own"
        for key, model in asked.items()
        if model is not None and not model.call("packs")
    ]


def _first_lessons(
    config: Config, parts: Parts, records: Corpus | None, pairs: Corpus | None, console: Console
) -> None:
    """Let the reward models learn from the files that the configuration names, before the first policy step."""
    if records is not None:
        warm_start(config, records, parts.encoder, partial(parts.mprm.start, "train"), console)
        if config.mprm.warm_start_kept:
            keep_in_buffer(config, records, parts.encoder, parts.lessons, parts.mprm)
    if pairs is not None and parts.answers.model is not None:
        learn_preferences(config, pairs, parts.encoder, partial(parts.answers.model.start, "train"), console)


def _summary(progress: Progress, end: dict[str, float], seen: int, kept: int, gib: float) -> dict[str, Any]:
    start, end = finite(progress.start), finite(end)
    return {
        "steps": progress.step,
        "wall_seconds": round(progress.ledger.seconds, 1),
        "peak_memory_gib": round(gib, 2),
        "policy": {"accuracy_start": start["policy/accuracy"], "accuracy_end": end["policy/accuracy"]},
        "mprm": {
            "auc_start": start.get("mprm/auc_weighted"),
            "auc_end": end.get("mprm/auc_weighted"),
            "auc_standard_error_end": end.get("mprm/auc_standard_error"),
            "auc_alike_end": end.get("mprm/auc_within_kind"),
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


class StopOnSignal:
    """While inside, the first Ctrl-C, SIGTERM or SIGHUP asks for a stop after the policy step; the second one kills, as
    the first does while code of the user's is overdue: that step may never end."""

    def __init__(self, console: Console) -> None:
        words = "stopping after this step, with a checkpoint; once more to stop at once"
        # The signal may have come in the middle of a line that is being printed, which one thread cannot do twice.
        self._saying = Thread(target=console.say, args=(words,))
        self._asked_at = math.inf

    def __call__(self) -> bool:
        """Whether the run is to stop."""
        return self._asked_at < math.inf

    def __enter__(self) -> StopOnSignal:
        told = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        # `nohup` and shells that start a job in the background have some ignored.
        self._before = {n: handler for n in told if (handler := signal.getsignal(n)) != signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        if self._saying.is_alive():
            self._saying.join()
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now, again = time.monotonic(), self()
        if again and now <= self._asked_at + SECONDS_OF_ONE_REQUEST:
            return
        self._asked_at = now
        if again or is_overdue():
            raise KeyboardInterrupt
        self._saying.start()
