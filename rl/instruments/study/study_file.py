"""What a study is, read from YAML: which experiments are compared, over which seeds, and what is told of them."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from rewards.section import Count, Positive, Section
from rl.config import load_section
from rl.config.sections import Sections
from rl.errors import ConfigError
from rl.instruments.study.twin_config import TwinConfig

ARM = "arm"
"""The factor whose levels are the named ``arms``."""
TWIN = "twin."
"""What keys of the twin begin with, beside those of an experiment."""
OWN_KEYS = ("name", "output_dir", "record", "seed")
"""Keys of an experiment that the study sets itself."""
MOST_CELLS = 5_000
RESERVED = "cells, seeds and folders are the study's own"

Settings = dict[str, Any]
"""Values by dotted key of an experiment."""


class Study(Section):
    """Experiments that differ in what is asked about, and in nothing else."""

    name: str
    """Names the study's folder."""
    question: str
    """What it asks, in one sentence; heads the report."""
    kind: Literal["replay", "train", "twin"]
    """`replay` feeds recorded runs to other selectors, buffers and reward models; `train` trains anew in each cell;
    `twin` runs the tabular twin of training in each, in a second or two."""
    config: str
    """The experiment that all cells begin with, relative to the study's file."""
    set: Settings = Field(default_factory=dict)
    """Changes of every cell, by key."""
    record: Settings = Field(default_factory=dict)
    """Of `replay`: changes of the runs that are recorded before the cells, one a seed; other studies that name the same
    ones share them."""
    twin: TwinConfig = TwinConfig()
    """Of `twin`, and of `--power`: its world and its rates. With `twin` these may be varied, too, as `twin.policy_rate`
    and the like."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    """A cell each for every arm; cells of one seed are pairs: they see the same prompts, or the same recorded run."""
    matrix: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Keys with the values that each takes; every combination is an arm."""
    arms: dict[str, Settings] = Field(default_factory=dict)
    """Named changes, each combined with the whole matrix."""
    leave_out: tuple[Settings, ...] = ()
    """Combinations that are not run: a value, or a list of values, for each of some keys of the matrix, or `arm`."""
    baseline: str | Settings | None = None
    """What arms are compared with: the same combination with these values instead, or the name of an arm; null for no
    comparison."""
    contrast: dict[str, tuple[Any, Any]] = Field(default_factory=dict)
    """Two values of a key of the matrix: how much larger is an arm's difference to its baseline at the first one?"""
    outcomes: Annotated[tuple[str, ...], Field(min_length=1)]
    """Final numbers that the report compares, the most important one first."""
    curves: tuple[str, ...] = ()
    """Numbers that the report draws over the steps."""
    against: Annotated[tuple[str, ...], Field(min_length=1)] = ("step",)
    """What curves are drawn against: `step`; with `train` also `rollouts`, `tokens` and `seconds`."""
    workers: Count = 1
    """Most cells at a time, each a Ray task."""
    cpus_per_cell: Positive = 1
    """CPUs that Ray reserves for each; how many threads it has, say `mprm.num_cpus` and the like."""
    gpus_per_cell: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray reserves for each."""
    cell_seconds: Positive = 60
    """What a cell takes, about: for the estimate before it starts, until cells have been timed."""
    record_seconds: Positive = 300
    """What recording a run takes, about."""

    @field_validator("set", "record", "matrix", "contrast", "arms", "leave_out", "baseline", mode="before")
    @classmethod
    def _has_dotted_keys(cls, value: Any, info: Any) -> Any:
        """Sections may be written as sections, too: `{mprm: {every: 2}}` is `{mprm.every: 2}`."""
        _check_plain(value)
        if info.field_name == "arms" and isinstance(value, Mapping):
            return {name: _dotted(settings) for name, settings in value.items()}
        if info.field_name == "leave_out" and isinstance(value, Sequence) and not isinstance(value, str):
            return [_dotted(settings) for settings in value]
        return _dotted(value)

    @model_validator(mode="after")
    def _fits_together(self) -> Study:
        _check_study(self)
        return self

    @property
    def factors(self) -> dict[str, tuple[Any, ...]]:
        """What arms differ in, with the levels of each: the matrix, and the named arms."""
        return ({ARM: tuple(self.arms)} if self.arms else {}) | self.matrix

    def combinations(self) -> list[Settings]:
        """Every combination of a level of each factor that is not left out."""
        factors = self.factors
        known = [[_spelled(key, level) for level in levels] for key, levels in factors.items()]
        left_out = [
            {key: {_spelled(key, value) for value in _listed(values)} for key, values in combination.items()}
            for combination in self.leave_out
        ]
        every = zip(itertools.product(*factors.values()), itertools.product(*known), strict=True)
        return [
            dict(zip(factors, levels, strict=True))
            for levels, spelled in every
            if not any(_matches(dict(zip(factors, spelled, strict=True)), out) for out in left_out)
        ]


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study's file, and apply overrides of its own keys, for example ``workers=2``.

    Raises:
        ConfigError: One line that names file, key, value and what is allowed.
    """
    study = load_section(Study, path, overrides)
    if not (path.parent / study.config).is_file():
        raise ConfigError(f"{path}: config: there is no file {path.parent / study.config}")
    return study


def _dotted(settings: Any, prefix: str = "") -> Any:
    if not isinstance(settings, Mapping):
        return settings
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        whole = f"{prefix}{key}"
        flat |= _dotted(value, f"{whole}.") if isinstance(value, Mapping) and value else {whole: value}
    return flat


def _check_plain(value: Any) -> None:
    """Whether all that stands there can be said on the command line, as JSON: YAML knows dates, bytes and sets, too.

    Raises:
        ValueError: It cannot.
    """
    if isinstance(value, Mapping):
        _refuse(not all(isinstance(key, str) for key in value), "input should have keys that are texts")
    elif not isinstance(value, list | tuple):
        allowed = value is None or isinstance(value, str | int | float)
        _refuse(not allowed, f"input should be text, in quotes where it looks like a {type(value).__name__}")
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        _check_plain(part)


def _check_study(study: Study) -> None:
    """Whether its parts fit together.

    Raises:
        ValueError: They do not.
    """
    cells = math.prod(map(len, (study.seeds, *study.factors.values())))
    _refuse(cells > MOST_CELLS, f"seeds, arms and matrix make {cells:,} cells: allowed are at most {MOST_CELLS:,}")
    twice = [seed for seed, times in Counter(study.seeds).items() if times > 1]
    _refuse(bool(twice), f"seeds have {twice[:3]} more than once: allowed is each of them once")
    _refuse(not study.factors, "matrix and arms are empty: one of them must say what is compared")
    recorded = study.kind != "replay" and bool(study.record)
    _refuse(recorded, f"record is set: allowed with kind {study.kind} is nothing")
    changed = {"set": study.set, "record": study.record, "matrix": study.matrix} | {
        f"arms.{name}": settings for name, settings in study.arms.items()
    }
    for place, settings in changed.items():
        for key in settings:
            _refuse(key in OWN_KEYS, f"{place}.{key} is set: {RESERVED}; allowed are the experiment's other keys")
            wanted = study.kind != "twin" and key.startswith(TWIN)
            _refuse(wanted, f"{place}.{key} is set: allowed with kind {study.kind} are the experiment's keys")
    for key, levels in study.matrix.items():
        values = {_spelled(key, level) for level in levels}
        _refuse(len(values) < len(levels), f"matrix.{key} is {list(levels)}: allowed is each value once")
    for name, settings in study.arms.items():
        for key in settings:
            _refuse(key in study.matrix, f"arms.{name}.{key} is set: it is in the matrix; allowed is one of the two")
    for combination in study.leave_out:
        _check_levels(study, "leave_out", {key: _listed(value) for key, value in combination.items()})
    _refuse(not study.combinations(), "leave_out leaves no arm: allowed is what leaves some")
    _check_levels(study, "contrast", study.contrast)
    if isinstance(study.baseline, str):
        _check_levels(study, "baseline", {ARM: (study.baseline,)})
    elif study.baseline is not None:
        _check_levels(study, "baseline", {key: (value,) for key, value in study.baseline.items()})


def _check_levels(study: Study, place: str, wanted: Mapping[str, Sequence[Any]]) -> None:
    for key, values in wanted.items():
        levels = study.factors.get(key)
        if levels is None:
            raise ValueError(f"{place} names {key}: allowed are {', '.join(study.factors)}")
        known, allowed = {_spelled(key, level) for level in levels}, ", ".join(map(str, levels))
        for value in values:
            unknown = _spelled(key, value) not in known
            _refuse(unknown, f"{place} names {key} {value!r}: allowed are {allowed}")


def _matches(spelled: Mapping[str, str], combination: Mapping[str, set[str]]) -> bool:
    return all(spelled[key] in values for key, values in combination.items())


def is_level(key: str, value: Any, level: Any) -> bool:
    """Whether a value, as it is typed, is this level of a factor: 1e-4 and 0.0001 are, where a number is wanted."""
    return _spelled(key, value) == _spelled(key, level)


def _spelled(key: str, value: Any) -> str:
    return _spelled_json(key, json.dumps(value))


@lru_cache(maxsize=2**16)
def _spelled_json(key: str, written: str) -> str:
    """To ask what a section makes of a value takes long, and each level of a factor is in thousands of arms."""
    return repr(value_of(key, json.loads(written)))


def value_of(key: str, typed: Any) -> Any:
    """What an experiment has at a dotted key if it is given this; what it would not take is left as it is.

    >>> value_of("learner.kl", 1), value_of("learner.kl", "1e-3"), value_of("mprm.enabled", "off")
    (1.0, 0.001, False)
    >>> value_of("arm", "a"), value_of("learner.kl", "much"), value_of("mprm.class_weights", [1, 2])
    ('a', 'much', (1.0, 2.0))
    """
    path = key.split(".")
    nested = typed
    for part in reversed(path):
        nested = {part: nested}
    try:
        found: Any = Sections.model_validate(nested)
        for part in path:
            found = found[part] if isinstance(found, Mapping) else getattr(found, part)
    except ValidationError:  # who makes the experiment says so
        return typed
    return found


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _refuse(wrong: bool, message: str) -> None:
    if wrong:
        raise ValueError(message)
