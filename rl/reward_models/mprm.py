"""The MPRM as a worker: made from the configuration, in one process or in several ranks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rewards.models.encoding import Encoder
from rewards.models.runtime import Runtime
from rewards.process_model.ensemble import ProcessEnsemble
from rewards.process_model.labels import LABEL_RULES, LabelRule, checked_rule, hard
from rewards.process_model.mprm import MPRM, open_mprm
from rewards.process_model.reading import make_reader
from rewards.process_model.saved import MPRM_FILE, read_saved
from rewards.records import Prompt, Rollout, StepScores
from rl.config import Config
from rl.config.users_parts import resolve
from rl.errors import ConfigError
from rl.files.named_checkpoint import (
    make_encoder,
    make_judge_encoder,
    policy_checkpoint,
    refuse_other_kind,
)
from rl.workers.group import WorkerGroup, start
from rl.workers.inline import InlineWorker
from rl.workers.pending import Pending, Ready
from rl.workers.worker import Worker


def start_mprm(config: Config) -> Worker | WorkerGroup | InlineWorker:
    """Start the MPRM; see `rl.workers.group.start`."""
    return start("mprm", partial(build_mprm, config), config)


def check_mprm(config: Config) -> None:
    """Whether the configured MPRM, if the run has one, can be made; cheap, and to be asked before anything is started.

    Raises:
        ConfigError: Its checkpoint, its words or its chat template cannot be used, or what is to judge beside it is no
            saved MPRM.
    """
    mprm = config.mprm
    if not config.places_mprm:
        return
    make_label_rule(config)
    if mprm.checkpoint is not None:
        refuse_other_kind("mprm.checkpoint:", Path(mprm.checkpoint), "mprm")
    encoder = mprm_encoder(config)
    _check_chat(config, encoder)
    for word in mprm.verdicts if mprm.head == "token" else ():
        if len(encoder.tokens(word)) != 1:
            raise ConfigError(f"mprm.verdicts: {word!r} is {len(encoder.tokens(word))} tokens here; allowed is one")
    saved = Path(mprm.checkpoint or "") / MPRM_FILE
    if mprm.checkpoint is not None and saved.is_file():
        wanted, found = mprm.identity(), _saved_settings("mprm.checkpoint", saved)
        for key in wanted:
            if _plain(wanted[key]) != _plain(found[key]):
                raise ConfigError(
                    f"mprm.{key}: {wanted[key]!r}, but {mprm.checkpoint} was saved with {found[key]!r}; "
                    "allowed is the same"
                )
    for folder in mprm.beside:
        if not (Path(folder) / MPRM_FILE).is_file():
            raise ConfigError(f"mprm.beside: {folder!r} is not the folder of a saved MPRM")
        _encoder(config, folder, "mprm.beside")


def _check_chat(config: Config, encoder: Encoder) -> None:
    """Whether the chat template holds what ``mprm.input_format`` wants of it; the step marker may yet become a token.

    Raises:
        ConfigError: It does not.
    """
    mprm = config.mprm
    try:
        if mprm.input_format == "inline":
            encoder.chat.opening([("user", ""), ("assistant", encoder.chat.pictures(1))])
        else:
            make_reader(mprm.input_format, encoder, verdict=mprm.verdicts[0])
    except ValueError as error:
        raise ConfigError(f"mprm.input_format is {mprm.input_format!r}: {error}") from None


def build_mprm(config: Config) -> MPRM | ProcessEnsemble:
    """The process reward model, with those that judge beside it, in the process that calls this: one rank, where the
    environment speaks of several."""
    runtime, label_rule = make_runtime(config, config.mprm.num_cpus), make_label_rule(config)
    mprm = open_process_model(config, config.mprm.checkpoint, "mprm.checkpoint", runtime, label_rule)
    beside = [open_process_model(config, folder, "mprm.beside", runtime, label_rule) for folder in config.mprm.beside]
    return ProcessEnsemble([mprm, *beside], config.mprm.combine) if beside else mprm


def open_process_model(
    config: Config, checkpoint: str | None, key: str, runtime: Runtime, label_rule: LabelRule = hard
) -> MPRM:
    """A process reward model that reads the policy's rollouts; ``checkpoint`` None for one of the policy's own.

    Raises:
        ConfigError: See `rl.files.named_checkpoint.make_judge_encoder`.
    """
    encoder, decode = _encoder(config, checkpoint, key), make_encoder(config).decode
    return open_mprm(checkpoint or policy_checkpoint(config), encoder, config.mprm, runtime, label_rule, decode)


def mprm_encoder(config: Config) -> Encoder:
    """The processor of the configured MPRM.

    Raises:
        ConfigError: See `rl.files.named_checkpoint.make_judge_encoder`.
    """
    return _encoder(config, config.mprm.checkpoint, "mprm.checkpoint")


def _encoder(config: Config, checkpoint: str | None, key: str) -> Encoder:
    saved = Path(checkpoint or "") / MPRM_FILE
    settings = _saved_settings(key, saved) if saved.is_file() else config.mprm.identity()
    return make_judge_encoder(config, checkpoint, key, reads_text=settings["input_format"] != "rollout")


def make_label_rule(config: Config) -> LabelRule:
    """The label rule that the configuration names; one of the user's own raises nothing but `UsersCodeError`.

    Raises:
        ConfigError: There is none of that name.
    """
    rules = LABEL_RULES | {"hard": partial(hard, threshold=config.mprm.threshold)}
    rule = resolve("mprm.label", config.mprm.label, rules)
    return rule if config.mprm.label in rules else checked_rule(f"mprm.label {config.mprm.label}", rule)


def make_runtime(config: Config, num_cpus: float) -> Runtime:
    """What other sections lend a reward model on so many CPUs."""
    policy, threads = config.policy, max(1, int(num_cpus))
    return Runtime(policy.dtype, threads, policy.trust_remote_code, config.seed, config.deadline)


def _saved_settings(key: str, file: Path) -> dict[str, Any]:
    try:
        return read_saved(file.parent).settings
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None


def _plain(value: Any) -> Any:
    """As JSON has it."""
    return list(value) if isinstance(value, tuple) else value


class AbsentMPRM:
    """Answers like the MPRM's worker, at once and in this process: no step has a score, and nothing is kept.

    It is never taught, since a run without an MPRM labels nothing.
    """

    def start(self, method: str, *arguments: Any) -> Pending[Any]:
        """Like `rl.workers.worker.Worker.start`, of the methods below."""
        return Ready(self.call(method, *arguments))

    def call(self, method: str, *arguments: Any) -> Any:
        """Like `rl.workers.worker.Worker.call`."""
        return getattr(self, method)(*arguments)

    def score(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
        """Scores (0,) of each rollout, however many steps it has."""
        return [StepScores(np.zeros(0), mprm_version=0)] * len(rollouts)

    def image_entropy(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """Of each prompt (B,): 0, as of images that look the same everywhere."""
        return np.zeros(len(prompts))

    def save(self, folder: Path) -> None:
        """Writes nothing: that is how a checkpoint tells that there was no MPRM."""

    def load(self, folder: Path) -> None:
        """Nothing was written."""
