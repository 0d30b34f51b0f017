"""The arms of a study and their cells: which experiments there are, and what each is compared with."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rl.config import Config
from rl.config.reading import changed_config, read_values
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
    config: Config
    twin: TwinConfig
    changes: Settings

    @property
    def seed(self) -> int:
        """Of the experiment."""
        return self.config.seed

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.arm.name},seed={self.seed}"


def make_arms(study: Study) -> list[Arm]:
    """One for every combination of the study, in the order of its file."""
    combinations = study.combinations()
    names = _names(combinations, study.factors)
    named, baseline = dict(zip(map(repr, combinations), names, strict=True)), _of_baseline(study)
    return [
        Arm(
            levels,
            _settings(study, levels),
            name,
            named.get(repr(levels | baseline)) if levels | baseline != levels else None,
        )
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
    changed, (first, *others) = _experiment(study, path), study.seeds
    fixed = study.set | {"record": False}
    checked = [changed(arm.name, fixed | arm.settings | {"seed": first}) for arm in arms]
    twins = [_twin(study, path, arm) for arm in arms]
    for seed in others:  # which is possible with every arm, or with none
        changed(arms[0].name, fixed | arms[0].settings | {"seed": seed})
    return [
        Cell(arm, config.model_copy(update={"seed": seed}), twin, study.set | arm.settings | {"seed": seed})
        for seed in study.seeds
        for arm, config, twin in zip(arms, checked, twins, strict=True)
    ]


def make_recordings(study: Study, path: Path) -> dict[int, Config]:
    """The experiments that are recorded for a study of replays, by seed; none for another one.

    Raises:
        ConfigError: They are not possible ones.
    """
    if study.kind != "replay":
        return {}
    changed = _experiment(study, path)
    return {seed: changed("record", study.record | {"record": True, "seed": seed}) for seed in study.seeds}


def _experiment(study: Study, path: Path) -> Callable[[str, Settings], Config]:
    """What all cells begin with, its file read once: takes what changes are called, and the changes, and checks them.

    Raises:
        ConfigError: Here and there: it is not a possible one.
    """
    file = path.parent / study.config
    values = read_values(file)

    def changed(what: str, changes: Settings) -> Config:
        try:
            own = {key: value for key, value in changes.items() if not key.startswith(TWIN)}
            config = changed_config(file, values, own)
            make_configured_selector(config)
            return config
        except ConfigError as error:
            raise ConfigError(f"{path}: {what}: {error}") from None

    return changed


def recipe_of(config: Config, twin: TwinConfig | None = None) -> str:
    """A digest of an experiment, of its twin where that is what runs, and of Sieve's version: with another one, its
    numbers may be others.

    Values that are the default are left out, so that a key that Sieve learns does not undo what is finished; and so
    are keys that change no number.
    """
    values = config.model_dump(mode="json", exclude_defaults=True)
    numbers = {key: value for key, value in values.items() if key not in WITHOUT_EFFECT}
    told = [_version(), numbers, *([twin.model_dump()] if twin else [])]
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _twin(study: Study, path: Path, arm: Arm) -> TwinConfig:
    changes = study.set | arm.settings
    own = {key.removeprefix(TWIN): value for key, value in changes.items() if key.startswith(TWIN)}
    try:
        return TwinConfig.model_validate(study.twin.model_dump() | own)
    except ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(map(str, wrong["loc"]))
        raise ConfigError(f"{path}: {arm.name}: {TWIN}{key} is {wrong['input']!r}: {wrong['msg']}") from None


@cache
def _version() -> str:
    """Sieve's, which takes a while to find."""
    return version("sieve-rl")


def _settings(study: Study, levels: Settings) -> Settings:
    named = study.arms[levels[ARM]] if ARM in levels else {}
    return {key: level for key, level in levels.items() if key != ARM} | named


def _of_baseline(study: Study) -> Settings:
    """The levels of a baseline, as the study's file has them; none without one."""
    wanted = {ARM: study.baseline} if isinstance(study.baseline, str) else study.baseline or {}
    return {
        key: next(level for level in study.factors[key] if is_level(key, value, level)) for key, value in wanted.items()
    }


def _names(arms: Sequence[Settings], factors: Mapping[str, Any]) -> list[str]:
    """Short names, for folders too."""
    short = short_names(factors)
    names = []
    for levels in arms:
        text = ",".join(level if key == ARM else f"{short[key]}={text_of(level)}" for key, level in levels.items())
        names.append(re.sub(r"[^\w.=,+-]+", "-", text))
    times = Counter(names)
    return [
        name
        if len(name) <= LONGEST_NAME and times[name] == 1
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
