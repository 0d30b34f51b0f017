"""Where a run stands, and the checkpoints that let it go on from there as if it had never stopped."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from rewards.annotation.annotator import LabelCost
from rewards.files.json_text import read_json_file
from rl.checkpoints.ledger import Ledger
from rl.checkpoints.manifest import list_files
from rl.config import Config, save_config
from rl.errors import CheckpointError, ConfigError, LostWorkerError, WorkerError
from rl.files.run_files import CHECKPOINTS, CONFIG_FILE, checkpoints
from rl.parts import Parts
from rl.rollouts.staleness import check_versions_sent
from rl.workers.pending import Pending

PROGRESS_FILE = "progress.json"
"""Of the controller's own state."""


@dataclass
class Progress:
    """The controller's own state; everything else that a run consists of lives in the parts.

    Attributes:
        folder: The run folder.
        ledger: What the run has taken, whatever checkpoint it goes on from.
        step: Policy steps taken.
        continuations, tokens: Monte-Carlo continuations so far, and their tokens.
        fixed_tokens: The tokens that the `fixed` budget would have taken, estimated.
        start: Metrics of the evaluation before the first step.
    """

    folder: Path
    ledger: Ledger
    step: int = 0
    continuations: int = 0
    tokens: int = 0
    fixed_tokens: float = 0.0
    start: dict[str, float] = field(default_factory=dict)

    def advance(self, cost: LabelCost) -> dict[str, float]:
        """A policy step is finished, and its labels took so much; gives the ledger's metrics."""
        self.step += 1
        self.count(cost)
        return self.ledger.finished(self.step)

    def count(self, cost: LabelCost) -> None:
        """Labels took so much."""
        self.continuations += cost.continuations
        self.tokens += cost.tokens
        self.fixed_tokens += cost.fixed_tokens

    def save(self, config: Config, parts: Parts) -> Path:
        """Write ``checkpoints/step-N`` under a temporary name, rename it, and delete the oldest ones beyond the limit.

        Waits for the rollouts and continuations under way: they belong to the checkpoint, since no later weights could
        sample them again.
        One that is there already is what the run went on from, and stays.

        Raises:
            CheckpointError: There is no room for it, for example; nothing is left of it.
            LostWorkerError: A worker is gone.
        """
        target = self.folder / CHECKPOINTS / f"step-{self.step}"
        if target.exists():
            return target
        partial = target.with_name(f".{target.name}.partial")
        saving: list[Pending[None]] = []
        try:
            for left in target.parent.glob(".step-*.partial"):
                shutil.rmtree(left)
            target.parent.mkdir(exist_ok=True)  # in the run's folder, unless somebody has moved that away
            partial.mkdir()
            made = partial.stat()
            saving += [
                parts.learner.start("save", (partial / "policy").absolute()),
                parts.mprm.start("save", (partial / "mprm").absolute()),
            ]
            saving += parts.answers.save(partial)
            parts.lessons.save(partial)
            save_config(config, partial / CONFIG_FILE)
            (partial / PROGRESS_FILE).write_text(json.dumps(self._state() | _controller_state(parts)))
            for answer in saving:
                answer.result()
            list_files(partial)
            if not os.path.samestat(made, partial.stat()):
                # The run's folder was moved away meanwhile, and workers have made its old place anew.
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(partial))
            os.replace(partial, target)
        except LostWorkerError:
            raise
        except (OSError, WorkerError) as error:
            _clear(partial, saving)
            raise CheckpointError(f"{target} cannot be written: {error}") from error
        delete_oldest(self.folder, config.keep_checkpoints)
        return target

    @classmethod
    def restore(cls, folder: Path, parts: Parts, ledger: Ledger) -> Progress:
        """Go on from the newest checkpoint of a run folder: puts the state back into the parts, too.

        Raises:
            ConfigError: Its buffer, held-back rollouts, preference pairs or progress are damaged or something else.
        """
        newest = checkpoints(folder)[-1].absolute()
        try:
            parts.lessons.load(newest)
            loading = parts.answers.load(newest)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        loading += [parts.learner.start("load", newest / "policy"), parts.mprm.start("load", newest / "mprm")]
        try:
            state = read_json_file(newest / PROGRESS_FILE)
            parts.stream.restore(state.pop("stream"))
            parts.watch.restore(state.pop("watch"))
            parts.labeller.restore(state.pop("judge"), state.pop("labellings", ()), parts.stream.again)
            msgspec.convert(state, dict[str, float | dict[str, float]])
            progress = cls(folder, ledger, **state)
            if newest.name != f"step-{progress.step}" or parts.stream.step != progress.step:
                raise ValueError(f"it says that it is of policy step {progress.step}, its rollouts {parts.stream.step}")
        except ConfigError:  # of the task
            raise
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__} {error}"
            raise ConfigError(f"{newest / PROGRESS_FILE} is damaged: {reason}; an earlier checkpoint serves") from None
        for answer in loading:
            answer.result()
        check_versions_sent(parts.transfer.send(progress.step), progress.step)
        return progress

    def _state(self) -> dict[str, object]:
        entries = [entry.name for entry in dataclasses.fields(self) if entry.name not in ("folder", "ledger")]
        return {name: getattr(self, name) for name in entries}


def _clear(partial: Path, saving: Sequence[Pending[None]]) -> None:
    """Remove a checkpoint that cannot be finished, once nobody writes into it any more, and the folders above it that
    hold nothing else."""
    for answer in saving:
        with suppress(WorkerError):
            answer.result()
    shutil.rmtree(partial, ignore_errors=True)
    with suppress(OSError):
        partial.parent.rmdir()
        partial.parent.parent.rmdir()


def delete_oldest(folder: Path, keep: int) -> None:
    """Delete the oldest checkpoints of a run folder beyond so many; of one that was linked back, the link. What cannot
    be deleted stays: the run is not to end for it."""
    for old in checkpoints(folder)[:-keep]:
        with suppress(OSError):
            if old.is_symlink():
                old.unlink()
            else:
                shutil.rmtree(old, ignore_errors=True)


def _controller_state(parts: Parts) -> dict[str, object]:
    """What parts that live beside the loop say of themselves."""
    return {
        "stream": parts.stream.state(),
        "watch": parts.watch.state(),
        "labellings": [labelling.state() for labelling in parts.labeller.under_way],
        "judge": parts.labeller.state(),
    }
