"""The arms of a study and their cells: which experiments there are, and what each is compared with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rl.config import Config, load_config
from rl.errors import ConfigError
from rl.instruments.study.study_file import ARM, TWIN, Settings, Study, is_level
from rl.instruments.study.twin_config import TwinConfig
from rl.reward_models.lessons import make_configured_selector

LONGEST_NAME = 120
WITHOUT_EFFECT = ("name", "output_dir", "record", "checkpoint_every", "keep_checkpoints", "deadline")
"""Keys of an experiment that change none of its numbers."""


@dataclass(frozen=True)
class Arm:
    """What is compared: one combination of levels, run with every seed.

    Attributes:
        levels: Its level of each factor.
        settings: What it changes in the experiment.
        name: Readable and different from every other arm's, for example ``selector=bis,keep_ratio=0.1``.
        baseline: The name of the arm that it is compared with; null if it is a baseline itself, or has none.
    """

    levels: Settings
    settings: Settings
    name: str
    baseline: str | None


@dataclass(frozen=True)
class Cell:
    """One experiment: an arm with a seed.

    Attributes:
        config: The whole experiment.
        twin: What its twin is told.
        changes: What it changes in the study's experiment.
    """

    arm: Arm
    seed: int
    config: Config
    twin: TwinConfig
    changes: Settings

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.arm.name},seed={self.seed}"


def make_arms(study: Study) -> list[Arm]:
    """One for every combination of the study, in the order of its file."""
    combinations = study.combinations()
    names = _names(combinations, study.factors)
    return [
        Arm(levels, _settings(study, levels), name, _baseline(study, levels, combinations, names))
        for levels, name in zip(combinations, names, strict=True)
    ]


def make_cells(study: Study, path: Path, arms: Sequence[Arm]) -> list[Cell]:
    """Every arm with every seed: all of one seed before the next, so that what is there can be compared in pairs.

    Args:
        study: The study.
        path: Its file.
        arms: Of `make_arms`.

    Raises:
        ConfigError: An experiment is not a possible one; names the study's file and the arm.
    """
    return [_cell(study, path, arm, seed) for seed in study.seeds for arm in arms]


def make_recordings(study: Study, path: Path) -> dict[int, Config]:
    """The experiments that are recorded for a study of replays, by seed; none for another one.

    Raises:
        ConfigError: They are not possible ones.
    """
    if study.kind != "replay":
        return {}
    return {seed: _config(study, path, "record", study.record | {"record": True, "seed": seed}) for seed in study.seeds}


def overrides_of(changes: Mapping[str, Any]) -> list[str]:
    """Changes as ``key.sub=value``, for `load_config` and the command line."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def recipe_of(config: Config, twin: TwinConfig | None = None) -> str:
    """A digest of an experiment, of its twin where that is what runs, and of Sieve's version: with another one, its
    numbers may be others.

    Values that are the default are left out, so that a key that Sieve learns does not undo what is finished; and so
    are keys that change no number.
    """
    values = config.model_dump(mode="json", exclude_defaults=True)
    numbers = {key: value for key, value in values.items() if key not in WITHOUT_EFFECT}
    told = [version("sieve-rl"), numbers, *([twin.model_dump()] if twin else [])]
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _cell(study: Study, path: Path, arm: Arm, seed: int) -> Cell:
    changes = study.set | arm.settings | {"seed": seed}
    experiment = {key: value for key, value in changes.items() if not key.startswith(TWIN)} | {"record": False}
    return Cell(arm, seed, _config(study, path, arm.name, experiment), _twin(study, path, arm.name, changes), changes)


def _twin(study: Study, path: Path, what: str, changes: Settings) -> TwinConfig:
    own = {key.removeprefix(TWIN): value for key, value in changes.items() if key.startswith(TWIN)}
    try:
        return TwinConfig.model_validate(study.twin.model_dump() | own)
    except ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(map(str, wrong["loc"]))
        raise ConfigError(f"{path}: {what}: {TWIN}{key} is {wrong['input']!r}: {wrong['msg']}") from None


def _config(study: Study, path: Path, what: str, changes: Settings) -> Config:
    try:
        config = load_config(path.parent / study.config, overrides_of(changes))
        make_configured_selector(config)
        return config
    except ConfigError as error:
        raise ConfigError(f"{path}: {what}: {error}") from None


def _settings(study: Study, levels: Settings) -> Settings:
    named = study.arms[levels[ARM]] if ARM in levels else {}
    return {key: level for key, level in levels.items() if key != ARM} | named


def _baseline(study: Study, levels: Settings, arms: Sequence[Settings], names: Sequence[str]) -> str | None:
    if study.baseline is None:
        return None
    wanted = {ARM: study.baseline} if isinstance(study.baseline, str) else study.baseline
    partner = levels | {key: _level(study, key, value) for key, value in wanted.items()}
    return names[arms.index(partner)] if partner != levels and partner in arms else None


def _level(study: Study, key: str, value: Any) -> Any:
    """The level of a factor that a value is, as the study's file has it."""
    return next(level for level in study.factors[key] if is_level(key, level, value))


def _names(arms: Sequence[Settings], factors: Mapping[str, Any]) -> list[str]:
    """Short names, for folders too."""
    short = short_names(factors)
    names = []
    for levels in arms:
        text = ",".join(level if key == ARM else f"{short[key]}={text_of(level)}" for key, level in levels.items())
        names.append(re.sub(r"[^\w.=,+-]+", "-", text))
    return [
        name
        if len(name) <= LONGEST_NAME and names.count(name) == 1
        else f"{name[:LONGEST_NAME]}-{sha256(repr(levels).encode()).hexdigest()[:8]}"
        for name, levels in zip(names, arms, strict=True)
    ]


def short_names(keys: Mapping[str, Any]) -> dict[str, str]:
    """Each key's last part, where no other has the same."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)}


def text_of(level: Any) -> str:
    """A level of a factor, as it is written in tables and names."""
    return level if isinstance(level, str) else json.dumps(level)
