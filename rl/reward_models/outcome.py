"""The outcome model as a worker: made from the configuration, with the models that judge beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from rewards.models.encoding import Encoder
from rewards.models.runtime import Runtime
from rewards.outcome.outcome_model import (
    STATE_FILE,
    OutcomeModel,
    open_outcome_model,
    outcome_rewards,
)
from rewards.outcome.preference_files import load_preferences, save_preferences
from rewards.outcome.preferences import RecentPreferences, harvest
from rewards.process_model.ensemble import AnswerJudge, OutcomeEnsemble
from rewards.process_model.saved import MPRM_FILE
from rewards.records import Prompt, Rollout
from rewards.seeds import derive_seed
from rl.config import Config
from rl.errors import ConfigError
from rl.files.named_checkpoint import make_judge_encoder, policy_checkpoint, refuse_other_kind
from rl.reward_models.mprm import make_runtime, open_process_model
from rl.workers.group import WorkerGroup, start
from rl.workers.inline import InlineWorker
from rl.workers.pending import Here, Pending, Ready
from rl.workers.worker import Worker

PAIRS_FILE, MODEL_FOLDER = "preferences.parquet", "outcome_model"


def start_outcome_model(config: Config) -> Worker | WorkerGroup | InlineWorker | None:
    """Start the outcome model, see `rl.workers.group.start`; None in a run without one."""
    if not config.outcome_model.is_used:
        return None
    return start("outcome_model", partial(build_outcome_model, config), config)


def check_outcome_model(config: Config) -> None:
    """Whether the configured outcome model, if the run has one, can be made; cheap, and to be asked before anything is
    started.

    Raises:
        ConfigError: Its checkpoint cannot be used, or what is to judge beside it is no saved reward model.
    """
    settings = config.outcome_model
    if not settings.is_used:
        return
    outcome_encoder(config)
    for folder in settings.beside:
        if not any((Path(folder) / name).is_file() for name in (STATE_FILE, MPRM_FILE)):
            raise ConfigError(f"outcome_model.beside: {folder!r} is not the folder of a saved outcome model or MPRM")


def build_outcome_model(config: Config) -> OutcomeModel | OutcomeEnsemble:
    """The outcome model, in the process that calls this."""
    settings = config.outcome_model
    model = open_configured_model(config)
    beside = [_open_judge(config, folder) for folder in settings.beside]
    return OutcomeEnsemble([model, *beside], settings.combine) if beside else model


def open_configured_model(config: Config) -> OutcomeModel:
    """The model that learns, alone."""
    checkpoint = config.outcome_model.checkpoint or policy_checkpoint(config)
    encoder = outcome_encoder(config)
    return open_outcome_model(checkpoint, encoder, config.outcome_model, make_outcome_runtime(config))


def make_outcome_runtime(config: Config) -> Runtime:
    """What other sections lend the outcome model. It has no adapters: most updates of a whole model would be lost in
    bfloat16."""
    return replace(make_runtime(config, config.outcome_model.num_cpus), dtype="float32")


def _open_judge(config: Config, folder: str) -> OutcomeModel | AnswerJudge:
    if (Path(folder) / MPRM_FILE).is_file():
        runtime = make_runtime(config, config.outcome_model.num_cpus)
        return AnswerJudge(open_process_model(config, folder, "outcome_model.beside", runtime))
    encoder = make_judge_encoder(config, folder, "outcome_model.beside")
    return open_outcome_model(folder, encoder, config.outcome_model, make_outcome_runtime(config))


def outcome_encoder(config: Config) -> Encoder:
    """The processor of the model that learns.

    Raises:
        ConfigError: There is none, its vocabulary is not the policy's, or the checkpoint is a saved MPRM.
    """
    checkpoint = config.outcome_model.checkpoint
    if checkpoint is not None:
        refuse_other_kind("outcome_model.checkpoint:", Path(checkpoint), "outcome")
    return make_judge_encoder(config, checkpoint, "outcome_model.checkpoint")


class AnswerRewards:
    """Gives each rollout its outcome reward, and lets the outcome model learn from right and wrong siblings.

    Args:
        config: The experiment.
        model: The outcome model's worker; None in a run without one.
    """

    def __init__(self, config: Config, model: Worker | WorkerGroup | Here | None) -> None:
        self._config, self._settings, self.model = config, config.outcome_model, model
        self._recent = RecentPreferences(self._settings.capacity)

    def rewarded(
        self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]
    ) -> tuple[list[Rollout], dict[str, float]]:
        """The rollouts with their reward in place of the verifier's verdict, as credit rules see them, and metrics;
        waits for the model where the reward needs it."""
        if self.model is None or self._settings.reward == "rule":
            rewards, metrics = outcome_rewards(rollouts, "rule"), {}
        else:
            said: np.ndarray = self.model.call("score", prompts, rollouts)
            rewards, metrics = outcome_rewards(rollouts, self._settings.reward, said), {"model": float(said.mean())}
            right = np.array([rollout.outcome > 0 for rollout in rollouts])
            if 0 < right.sum() < len(right):
                metrics["model_gap"] = float(said[right].mean() - said[~right].mean())
        if metrics or any(rollout.said for rollout in rollouts):
            metrics["answers"] = float(rewards.mean())
        return [replace(rollout, outcome=float(r)) for rollout, r in zip(rollouts, rewards, strict=True)], metrics

    def teach(self, step: int, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> Pending[dict[str, float]]:
        """Keep pairs of right and wrong siblings; every few steps, begin an update from the recent ones."""
        if self.model is None or not self._settings.harvest:
            return Ready({})
        generator = np.random.default_rng(derive_seed(self._config.seed, "preferences", step))
        self._recent.add(harvest(prompts, rollouts, self._settings.pairs_per_group, generator))
        if (step + 1) % self._settings.every or not len(self._recent):
            return Ready({})
        return self.model.start("train", self._recent.draw(self._settings.lesson_size, generator))

    def save(self, folder: Path) -> list[Pending[None]]:
        """Begin writing what a checkpoint needs; nothing without a model."""
        if self.model is None:
            return []
        save_preferences(self._recent.pairs(), folder / PAIRS_FILE)
        return [self.model.start("save", (folder / MODEL_FOLDER).absolute())]

    def load(self, folder: Path) -> list[Pending[None]]:
        """Begin to go on from what `save` wrote.

        Raises:
            ValueError: The pairs are missing or damaged.
        """
        if self.model is None:
            return []
        self._recent.add(load_preferences(folder / PAIRS_FILE))
        return [self.model.start("load", (folder / MODEL_FOLDER).absolute())]
