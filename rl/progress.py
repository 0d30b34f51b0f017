"""Where a run stands, and the checkpoints that let it go on from there as if it had never stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from rewards.annotation.annotator import Bill
from rewards.records import Completion, Prompt
from rl.config import Config, ConfigError
from rl.parts import Parts
from rl.tasks.task import Task
from rl.workers import Pending
from selection.buffer_files import load_buffer, save_buffer

CHECKPOINTS, BUFFER_FILE, HELD_BACK_FILE = "checkpoints", "buffer.parquet", "held_back.parquet"


@dataclass(frozen=True)
class Batch:
    """The prompts of one policy step, from ``cursor`` on, and the answers to them, possibly still under way."""

    cursor: int
    prompts: list[Prompt]
    answers: Pending[list[list[Completion]]]


@dataclass(frozen=True)
class Ready:
    """Answers that are already here; see `rl.workers.Pending`."""

    answers: list[list[Completion]]

    def result(self) -> list[list[Completion]]:
        return self.answers


@dataclass
class Progress:
    """The controller's own state; everything else that a run consists of lives in the parts.

    Attributes:
        folder: The run folder.
        step: Policy steps taken.
        engine_version: The policy version that the engines have, or have been sent.
        asked: Policy steps for which rollouts were asked.
        cursor: Training prompts handed out.
        upcoming: Batches asked for and not yet trained on, in order.
        continuations, tokens: Monte-Carlo continuations so far, and their tokens.
        fixed_tokens: The tokens that the `fixed` budget would have taken, estimated.
        start: Metrics of the evaluation before the first step.
        seconds: Wall-clock seconds spent in earlier sittings.
    """

    folder: Path
    step: int = 0
    engine_version: int = 0
    asked: int = 0
    cursor: int = 0
    upcoming: deque[Batch] = field(default_factory=deque)
    continuations: int = 0
    tokens: int = 0
    fixed_tokens: float = 0.0
    start: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, bill: Bill) -> None:
        """Add a step's annotation to the bill."""
        self.continuations += bill.continuations
        self.tokens += bill.tokens
        self.fixed_tokens += bill.fixed_tokens

    def save(self, config: Config, parts: Parts) -> Path:
        """Write ``checkpoints/step-N`` under a temporary name, rename it, and delete the oldest ones beyond the limit.

        Waits for the batches under way: they belong to the checkpoint, since no later weights could sample them again.
        """
        target = self.folder / CHECKPOINTS / f"step-{self.step}"
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        saving = [
            parts.learner.start("save", (partial / "policy").absolute()),
            parts.mprm.start("save", (partial / "mprm").absolute()),
            *parts.answers.save(partial),
        ]
        save_buffer(parts.buffer.state(), partial / BUFFER_FILE)
        parts.held_back.save(partial / HELD_BACK_FILE)
        (partial / "progress.json").write_text(json.dumps(self._state() | {"judge": _judge_state(parts)}))
        for answer in saving:
            answer.result()
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
        for old in checkpoints(self.folder)[: -config.keep_checkpoints]:
            shutil.rmtree(old)
        return target

    @classmethod
    def restore(cls, folder: Path, parts: Parts) -> Progress:
        """Go on from the newest checkpoint of a run folder: puts the state back into the parts, too.

        Raises:
            ConfigError: Its buffer, held-back rollouts or preference pairs are damaged or something else.
        """
        newest = checkpoints(folder)[-1].absolute()
        try:
            parts.buffer.restore(load_buffer(newest / BUFFER_FILE))
            parts.held_back.load(newest / HELD_BACK_FILE)
            loading = parts.answers.load(newest)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        loading += [parts.learner.start("load", newest / "policy"), parts.mprm.start("load", newest / "mprm")]
        state = json.loads((newest / "progress.json").read_text())
        if (judge := state.pop("judge")) is not None and parts.judge is not None:
            parts.judge.restore(judge)
        upcoming = deque(_restored_batch(entry, parts.task) for entry in state.pop("upcoming"))
        for answer in loading:
            answer.result()
        progress = cls(folder, upcoming=upcoming, **state)
        for answer in parts.engines.load_weights(parts.learner.start("weights"), progress.engine_version):
            answer.result()
        return progress

    def _state(self) -> dict[str, object]:
        upcoming = [
            {
                "cursor": batch.cursor,
                "prompts": len(batch.prompts),
                "answers": [[dataclasses.asdict(c) for c in samples] for samples in batch.answers.result()],
            }
            for batch in self.upcoming
        ]
        plain = {
            entry.name: getattr(self, entry.name)
            for entry in dataclasses.fields(self)
            if entry.name not in ("folder", "upcoming")
        }
        return plain | {"upcoming": upcoming}


def checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints of a run folder, oldest first."""
    found = (folder / CHECKPOINTS).glob("step-*")
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def is_due(every: int, step: int) -> bool:
    """Whether something that happens every so many steps (0: never) happens after ``step``."""
    return every > 0 and step % every == 0


def _judge_state(parts: Parts) -> dict[str, int] | None:
    return parts.judge.state() if parts.judge is not None else None


def _restored_batch(entry: dict, task: Task) -> Batch:
    prompts = [task.prompt("train", entry["cursor"] + i) for i in range(entry["prompts"])]
    answers = [
        [
            Completion(tuple(c["token_ids"]), tuple(c["logprobs"]), c["finish_reason"], c["policy_version"])
            for c in samples
        ]
        for samples in entry["answers"]
    ]
    return Batch(entry["cursor"], prompts, Ready(answers))
