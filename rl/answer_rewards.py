"""What whole answers earn in training, and the outcome model behind it in a run that has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rewards.outcome.outcome_reward import outcome_rewards
from rewards.outcome.preference_files import load_preferences, save_preferences
from rewards.outcome.preferences import RecentPreferences, harvest
from rewards.records import Prompt, Rollout
from rewards.seeds import derive_seed
from rl.config import Config
from rl.pending import Pending
from rl.workers import Worker

PAIRS_FILE, MODEL_FOLDER = "preferences.parquet", "outcome_model"


class AnswerRewards:
    """Gives each rollout its outcome reward, and lets the outcome model learn from right and wrong siblings.

    Args:
        config: The experiment.
        model: The outcome model's worker; None in a run without one.
    """

    def __init__(self, config: Config, model: Worker | None) -> None:
        self._config, self._settings, self.model = config, config.outcome_model, model
        self._recent = RecentPreferences(self._settings.capacity)

    def judge(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> Pending[np.ndarray] | None:
        """Begin scoring the answers, where their reward needs it."""
        if self.model is None or self._settings.reward == "rule":
            return None
        return self.model.start("score", prompts, rollouts)

    def rewarded(
        self, rollouts: Sequence[Rollout], scores: Pending[np.ndarray] | None
    ) -> tuple[list[Rollout], dict[str, float]]:
        """The rollouts with their reward in place of the verifier's verdict, as credit rules see them, and metrics."""
        if scores is None:
            return list(rollouts), {}
        said = scores.result()
        rewards = outcome_rewards(rollouts, self._settings.reward, said)
        right = np.array([rollout.outcome > 0 for rollout in rollouts])
        metrics = {"model": float(said.mean()), "answers": float(rewards.mean())}
        if 0 < right.sum() < len(right):
            metrics["model_gap"] = float(said[right].mean() - said[~right].mean())
        return [replace(rollout, outcome=float(r)) for rollout, r in zip(rollouts, rewards, strict=True)], metrics

    def teach(
        self, step: int, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]
    ) -> Pending[dict[str, float]] | None:
        """Keep pairs of right and wrong siblings; every few steps, begin an update from the recent ones."""
        if self.model is None or not self._settings.harvest:
            return None
        generator = np.random.default_rng(derive_seed(self._config.seed, "preferences", step))
        self._recent.add(harvest(prompts, rollouts, self._settings.pairs_per_group, generator))
        if (step + 1) % self._settings.every or not len(self._recent):
            return None
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
