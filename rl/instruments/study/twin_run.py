"""A run of the tabular twin: the loop's order of things, with the experiment's own keys, all seeds of an arm at once.

Of an experiment it takes the keys in `READ`, and no other may be varied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from operator import attrgetter
from typing import Any

import numpy as np
from scipy.special import logit
from scipy.stats import norm

from rewards.measuring.discrimination import step_discrimination
from rewards.seeds import derive_seed
from rl.config import Config
from rl.errors import ConfigError
from rl.instruments.replay.measuring import CellResult, area_under_curve
from rl.instruments.study.study_file import TWIN
from rl.instruments.study.twin import (
    COUNT,
    Beliefs,
    K,
    Puzzles,
    Rollouts,
    Table,
    advantages,
    chances,
    learn_labels,
    learn_policy,
    read_puzzles,
    roll_out,
    sigmoid,
    step_scores,
    tabulate,
)
from rl.instruments.study.twin_config import TwinConfig
from rl.tasks.worlds import World
from selection.candidates import Candidates
from selection.selectors import NEED_COMPLEXITY, SELECTORS, make_selector

READ = (
    *("steps", "task.seed", "learner.prompts", "learner.samples", "learner.credit"),
    *("annotation.share", "annotation.continuations"),
    *("selection.selector", "selection.alpha", "selection.prior", "selection.threshold", "selection.keep_ratio"),
    *("mprm.enabled", "mprm.every", "mprm.batches", "mprm.batch_size", "mprm.until"),
    *("evaluation.prompts", "evaluation.samples", "evaluation.every"),
)
"""Keys of an experiment that decide its twin."""
CREDITS = ("outcome", "additive", "min_form", "progress")
KNOWN: dict[str, Sequence[object]] = {
    "task.name": ("beliefs",),
    "learner.algorithm": ("grpo",),
    "learner.scale_rewards": ("group",),
    "learner.credit": CREDITS,
    "learner.reuse_continuations": (False,),
    "learner.dynamic_sampling": ("off",),
    "learner.kl": (0,),
    "annotation.budget": ("fixed",),
    "annotation.delay": (0,),
    "annotation.first_error": ("ignore",),
    "annotation.outcome_weight": (0,),
    "selection.selector": [name for name in SELECTORS if name not in NEED_COMPLEXITY],
    "selection.half_life": (0,),
    "selection.draw": ("uniform",),
    "selection.prompts": ("uniform",),
    "selection.fresh": (None,),
    "mprm.label": ("hard",),
    "mprm.threshold": (0,),
    "mprm.class_weights": ((1, 1),),
    "mprm.perception_weight": (1,),
    "mprm.until_first_error": (False,),
    "mprm.guard_share": (0,),
    "mprm.warm_start": ((),),
    "learner.epochs": (1,),
    "learner.mini_batches": (1,),
    "engine.temperature": (1,),
    "judge.endpoint": (None,),
}
"""What it can do, of keys that decide what is learned from."""
TRAINING = 4096
"""Different training puzzles; the stream begins anew after them."""
SURE = 1.0
"""The log-odds that an untrained reward model gives every result."""


def check_twin(config: Config, varied: Mapping[str, Any] | None = None) -> None:
    """Whether the twin knows all that decides an experiment's arm.

    Args:
        config: The experiment.
        varied: What the arm changes, by dotted key; a section's changes may stand under its name.

    Raises:
        ConfigError: It does not.
    """
    for key, allowed in KNOWN.items():
        if (value := attrgetter(key)(config)) not in allowed:
            raise ConfigError(f"{key} is {value!r}: the twin knows {', '.join(map(str, allowed))}")
    for name, value in (varied or {}).items():
        for key in [f"{name}.{inner}" for inner in value] if isinstance(value, Mapping) else [name]:
            is_without = not config.mprm.enabled and key.startswith("mprm.")
            if key not in READ and not key.startswith(TWIN) and not is_without:
                raise ConfigError(f"{key} is varied: it changes nothing in the twin; allowed are {', '.join(READ)}")


class Draws:
    """Uniform numbers of each seed for one purpose, whatever other seeds and purposes there are."""

    def __init__(self, seeds: Sequence[int], purpose: str) -> None:
        self.generators = [np.random.default_rng(derive_seed("twin", purpose, seed)) for seed in seeds]

    def uniform(self, *shape: int) -> np.ndarray:
        """In [0, 1), (S, *shape)."""
        return np.stack([generator.random(shape) for generator in self.generators])

    def choices(self, many: int, few: int) -> np.ndarray:
        """``few`` different places below ``many``, (S, few)."""
        return np.stack([generator.permutation(many)[:few] for generator in self.generators])


@dataclass
class Lessons:
    """The labelled rollouts that a reward model may learn from, in the order in which they were offered."""

    rollouts: list[Rollouts]
    labels: list[np.ndarray]
    scores: list[np.ndarray]

    def kept(self, puzzles: Puzzles, ratio: float) -> list[np.ndarray]:
        """Of each seed the places of the best rollouts of each source."""
        score = np.concatenate(self.scores, 1)
        source = puzzles.source[np.concatenate([rollouts.puzzle for rollouts in self.rollouts], 1)]
        found = []
        for values, sources in zip(score, source, strict=True):
            ranked = np.argsort(-values, kind="stable")
            parts = [ranked[sources[ranked] == name] for name in np.unique(sources)]
            found.append(np.concatenate([part[: max(1, int(ratio * len(part)))] for part in parts]))
        return found

    def wrong(self, kept: Sequence[np.ndarray]) -> np.ndarray:
        """The share of the kept steps whose label is not the truth (S,)."""
        shares = []
        for seed, places in enumerate(kept):
            label, truth, there = (
                np.concatenate([part[seed] for part in parts])[places]
                for parts in (self.labels, [r.so_far for r in self.rollouts], [r.written for r in self.rollouts])
            )
            shares.append((label != truth)[there].mean())
        return np.array(shares)


class Twin:
    """One arm with all its seeds, between two policy steps."""

    def __init__(self, config: Config, settings: TwinConfig, seeds: Sequence[int]) -> None:
        check_twin(config)
        self.config, self.settings, self.seeds = config, settings, list(seeds)
        self.beliefs: Beliefs = tabulate(World(settings.world, settings.world_seed))
        self.training = read_puzzles("train", TRAINING, config.task.seed)
        self.heldout = read_puzzles("heldout", config.evaluation.prompts, config.task.seed)
        self.policy = Table.of(np.tile(logit(self.beliefs.sure), (len(seeds), 1)), settings.policy_rate)
        purposes = "policy", "labels", "lessons", "evaluation", "areas", "mprm"
        self.draws = {purpose: Draws(seeds, purpose) for purpose in purposes}
        self.mprm = Table.of(self._untrained(), settings.mprm_rate)
        self.lessons = Lessons([], [], [])
        self.select = make_selector(config.selection.selector, config.selection)
        self.asked = 0

    def _untrained(self) -> np.ndarray:
        """The reward model's first logits (S, F + 1, 2); of counts, which are right, it knows that."""
        shape = (len(self.beliefs.sure) + 1, 2)
        logits = np.full((len(self.seeds), *shape), SURE)
        if self.settings.given_auc is not None:
            apart = float(np.sqrt(2) * norm.ppf(self.settings.given_auc))
            noise = norm.ppf(self.draws["mprm"].uniform(*shape))
            logits = apart * (noise + apart * (np.array([0.0, 1.0]) - 0.5))  # log-odds of two normal distributions
        logits[:, -1] = 5.0
        return logits

    def sample(self, prompts: int, samples: int) -> Rollouts:
        """Rollouts of the next prompts, those of a group together."""
        puzzle = np.repeat((self.asked + np.arange(prompts)) % TRAINING, samples)
        self.asked += prompts
        which = np.tile(puzzle, (len(self.seeds), 1))
        draws = self.draws["policy"].uniform(prompts * samples, K)
        return roll_out(self.beliefs, self.training, which, sigmoid(self.policy.logits), draws)

    def offer(self, rollouts: Rollouts) -> None:
        """Label rollouts by continuations, and let the selector judge them."""
        continuations = self.config.annotation.continuations
        seeds, count = rollouts.puzzle.shape
        whole = np.tile(np.arange(count).repeat(K * continuations), (seeds, 1))
        kept = np.tile(np.arange(1, K + 1).repeat(continuations), (seeds, count))
        begun = rollouts.take(whole)
        sure, draws = sigmoid(self.policy.logits), self.draws["labels"].uniform(whole.shape[1], K)
        ends = roll_out(self.beliefs, self.training, begun.puzzle, sure, draws, begun, kept)
        correct = ends.right.reshape(seeds, count, K, continuations).sum(3)
        self.lessons.rollouts.append(rollouts)
        self.lessons.labels.append(correct > 0)
        self.lessons.scores.append(self._judged(rollouts, correct))

    def _judged(self, rollouts: Rollouts, correct: np.ndarray) -> np.ndarray:
        """The selector's scores (S, R)."""
        scores = step_scores(self.mprm.logits, rollouts)
        found = []
        for seed, generator in enumerate(self.draws["lessons"].generators):
            there = rollouts.written[seed]
            sampled = np.full(there.sum(), float(self.config.annotation.continuations))
            steps = correct[seed][there].astype(float), sampled, scores[seed][there]
            found.append(self.select(Candidates(there.sum(1), *steps, generator=generator)))
        return np.stack(found)

    def teach(self, updates: int) -> None:
        """Optimizer steps of the reward model on rollouts that are kept."""
        kept = self.lessons.kept(self.training, self.config.selection.keep_ratio)
        rollouts = _joined(self.lessons.rollouts)
        labels = np.concatenate(self.lessons.labels, 1)
        for _ in range(updates):
            draws = self.draws["lessons"].uniform(self.config.mprm.batch_size)
            places = np.stack([mine[(row * len(mine)).astype(int)] for mine, row in zip(kept, draws, strict=True)])
            learn_labels(self.mprm, rollouts.take(places), np.take_along_axis(labels, places[..., None], 1))

    def step(self, step: int) -> None:
        """One policy step, counted from 0, and what the reward model learns behind it."""
        learner, mprm = self.config.learner, self.config.mprm
        rollouts = self.sample(learner.prompts, learner.samples)
        credit = learner.credit
        scores = step_scores(self.mprm.logits, rollouts)
        labelled = ceil(self.config.annotation.share * rollouts.puzzle.shape[1])
        learns = mprm.enabled and self.settings.given_auc is None and (mprm.until is None or step < mprm.until)
        if learns and labelled:
            self.offer(rollouts.take(self.draws["lessons"].choices(rollouts.puzzle.shape[1], labelled)))
        learn_policy(self.policy, rollouts, advantages(credit, rollouts, scores, learner.samples))
        if learns and self.lessons.rollouts and (step + 1) % mprm.every == 0:
            self.teach(mprm.batches)

    def measure(self) -> list[dict[str, float]]:
        """What the loop's held-out evaluation says, a row a seed; and what it would say of endless samples."""
        evaluation, sure = self.config.evaluation, sigmoid(self.policy.logits)
        chance = chances(self.beliefs, self.heldout, sure)
        draws = self.draws["evaluation"].uniform(*chance.shape[1:], evaluation.samples)
        right = (draws < chance[..., None]).mean((1, 2))
        which = np.tile(np.arange(chance.shape[1]), (len(self.seeds), 1))
        half = np.full((*which.shape, K), 0.5)
        greedy = roll_out(self.beliefs, self.heldout, which, sure, half).right.mean(1)
        rows = [
            {"policy/accuracy": float(a), "exact_accuracy": float(b), "greedy_accuracy": float(c)}
            for a, b, c in zip(right, chance.mean(1), greedy, strict=True)
        ]
        if self.config.mprm.enabled:
            again = np.tile(which, (1, 2))
            draws = self.draws["areas"].uniform(again.shape[1], K)
            rollouts = roll_out(self.beliefs, self.heldout, again, sure, draws)
            for row, found in zip(rows, self._areas(rollouts), strict=True):
                row["mprm/auc_weighted_reasoning"] = found
        if self.lessons.rollouts:
            kept = self.lessons.kept(self.training, self.config.selection.keep_ratio)
            for row, wrong in zip(rows, self.lessons.wrong(kept), strict=True):
                row["label_noise"] = float(wrong)
        return rows

    def _areas(self, rollouts: Rollouts) -> list[float]:
        """Of the reward model's scores of steps of reasoning, within a kind, by its errors."""
        scores, truth = step_scores(self.mprm.logits, rollouts), rollouts.so_far
        reasoning = rollouts.written & (self.heldout.operator[rollouts.puzzle] != COUNT)
        kind = self.heldout.source[rollouts.puzzle][..., None] * K + np.arange(K)
        parts = zip(scores, truth, kind, reasoning, strict=True)
        return [step_discrimination(s[there], t[there], k[there]).weighted for s, t, k, there in parts]


def run_twin(config: Config, settings: TwinConfig, seeds: Sequence[int]) -> list[CellResult]:
    """The results of one arm, in the order of its seeds.

    Raises:
        ConfigError: The twin does not know what the experiment asks for.
    """
    twin = Twin(config, settings, seeds)
    if settings.warm_rollouts and config.mprm.enabled and settings.given_auc is None:
        twin.offer(twin.sample(settings.warm_rollouts, 1))
        twin.teach(settings.warm_steps)
        twin.asked = 0
    curves: list[list[dict[str, float]]] = [[] for _ in seeds]
    for step in range(config.steps + 1):
        if step in (0, config.steps) or (config.evaluation.every and step % config.evaluation.every == 0):
            for curve, row in zip(curves, twin.measure(), strict=True):
                curve.append({"step": float(step)} | row)
        if step < config.steps:
            twin.step(step)
    return [CellResult(curve, _final(curve)) for curve in curves]


def _joined(parts: Sequence[Rollouts]) -> Rollouts:
    names = ("puzzle", "values", "fact", "own", "written", "right")
    return Rollouts(*(np.concatenate([getattr(part, name) for part in parts], 1) for name in names))


def _final(curve: Sequence[dict[str, float]]) -> dict[str, float]:
    steps, last = [row["step"] for row in curve], {name: value for name, value in curve[-1].items() if name != "step"}
    throughout = [name for name in last if all(name in row for row in curve)]
    return last | {f"area/{name}": area_under_curve(steps, [row[name] for row in curve]) for name in throughout}
