"""Selectors: which annotated rollouts are worth learning from. One pure function each, candidates in, scores out."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np

from rewards.users_code import UsersCodeError, in_one_line
from selection.bis import balanced_information, step_statistics
from selection.bis_posterior import posterior_balanced_information
from selection.candidates import Candidates
from selection.config import SelectionConfig

Selector = Callable[[Candidates], np.ndarray]
"""``candidates -> scores (B,)``, from 0 on: higher is more worth keeping, NaN is not to be kept at any ratio."""

SMALLEST_PROBABILITY = 1e-6  # keeps the loss of a step finite where the MPRM is sure and wrong


def make_selector(name: str, settings: SelectionConfig) -> Selector:
    """The built-in selector of that name.

    Raises:
        KeyError: There is none.
    """
    formula = SELECTORS[name]
    return lambda candidates: formula(candidates, settings)


def apply_selector(name: str, selector: Selector, candidates: Candidates) -> np.ndarray:
    """The selector's scores (B,), numbers or NaN; whatever a user's selector does, there is one line about it.

    Raises:
        UsersCodeError: It raised, or did not return one number a rollout; ``name`` says which selector.
    """
    with in_one_line(name):
        scores = np.asarray(selector(deepcopy(candidates)), dtype=float)
    if scores.shape != (len(candidates),):
        raise UsersCodeError(
            f"{name} gave scores of shape {scores.shape} for {len(candidates)} rollouts; allowed is one score a rollout"
        )
    return scores


def bis(candidates: Candidates, settings: SelectionConfig) -> np.ndarray:
    """The published score: `selection.bis`."""
    return balanced_information(step_statistics(candidates), settings.alpha)


def bis_posterior(candidates: Candidates, settings: SelectionConfig) -> np.ndarray:
    """The score under a posterior of each step's success rate: `selection.bis_posterior`."""
    return posterior_balanced_information(candidates, settings.alpha, settings.prior, settings.threshold)


def bis_visual(candidates: Candidates, settings: SelectionConfig) -> np.ndarray:
    """BIS times 1 + w H, with the entropy H of the images' features in [0, 1]; weight w = 0 is ``bis``.

    A factor and no further term: labels that tell nothing apart do not teach more because the picture is rich.

    Raises:
        ValueError: The images' entropy is not known.
    """
    if candidates.complexity is None:
        raise ValueError("bis_visual needs the entropy of each rollout's images")
    return bis(candidates, settings) * (1 + settings.visual_weight * candidates.complexity)


def mixed(candidates: Candidates, settings: SelectionConfig) -> np.ndarray:
    """Label mixture p (1 - p) alone."""
    statistics = step_statistics(candidates)
    return np.where(statistics.labelled > 0, statistics.mixture, np.nan)


def reliable(candidates: Candidates, settings: SelectionConfig) -> np.ndarray:
    """Label reliability R alone."""
    statistics = step_statistics(candidates)
    return np.where(statistics.labelled > 0, statistics.reliability, np.nan)


def low_mc(candidates: Candidates, settings: SelectionConfig) -> np.ndarray:
    """One minus the mean Monte-Carlo score: what the policy finds hard."""
    statistics = step_statistics(candidates)
    return np.where(statistics.labelled > 0, 1 - statistics.mean_score, np.nan)


def hard(candidates: Candidates, settings: SelectionConfig) -> np.ndarray:
    """Hard mining: the MPRM's mean cross-entropy on the rollout's hard labels, nats a step.

    Raises:
        ValueError: The MPRM's scores are not known.
    """
    score = np.clip(_known_scores(candidates, "hard"), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    loss = -np.where(candidates.correct > 0, np.log(score), np.log1p(-score))
    return _mean_over_labelled(candidates, loss)


def uncertain(candidates: Candidates, settings: SelectionConfig) -> np.ndarray:
    """The mean entropy of the MPRM's step scores, nats a step.

    Raises:
        ValueError: The MPRM's scores are not known.
    """
    score = np.clip(_known_scores(candidates, "uncertain"), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    entropy = -(score * np.log(score) + (1 - score) * np.log1p(-score))
    return _mean_over_labelled(candidates, entropy)


def random(candidates: Candidates, settings: SelectionConfig) -> np.ndarray:
    """A uniform score: the comparison every other selector has to beat at the same keep ratio."""
    labelled = candidates.per_rollout(candidates.sampled > 0)
    return np.where(labelled > 0, candidates.generator.random(len(candidates)), np.nan)


def _known_scores(candidates: Candidates, name: str) -> np.ndarray:
    if candidates.step_scores is None:
        raise ValueError(f"{name} needs the MPRM's score of every step")
    return candidates.step_scores


def _mean_over_labelled(candidates: Candidates, values: np.ndarray) -> np.ndarray:
    labelled = candidates.per_rollout(candidates.sampled > 0)
    total = candidates.per_rollout(np.where(candidates.sampled > 0, values, 0))
    return np.where(labelled > 0, total / np.maximum(labelled, 1), np.nan)


SELECTORS: dict[str, Callable[[Candidates, SelectionConfig], np.ndarray]] = {
    "bis": bis,
    "bis_posterior": bis_posterior,
    "bis_visual": bis_visual,
    "random": random,
    "mixed": mixed,
    "reliable": reliable,
    "low_mc": low_mc,
    "hard": hard,
    "uncertain": uncertain,
}
# What a selector needs beyond step scores that anybody could have written down.
NEED_COUNTS = {"bis_posterior"}
NEED_STEP_SCORES = {"hard", "uncertain"}
NEED_COMPLEXITY = {"bis_visual"}
