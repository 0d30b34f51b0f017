"""What an experiment is, read from YAML and ``key.sub=value`` overrides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from rewards.whole_file import replacing
from rl.config_checks import check_fit
from rl.config_judge import JudgeConfig
from rl.config_learner import LearnerConfig, ValueConfig, WatchConfig
from rl.config_outcome import OutcomeModelConfig
from rl.config_recovery import RecoveryConfig
from rl.config_replay import ReplayConfig
from rl.config_sections import (
    AnnotationConfig,
    Count,
    EngineConfig,
    EvaluationConfig,
    MPRMConfig,
    PolicyConfig,
    Positive,
    Section,
    SelectionConfig,
    TaskConfig,
)
from rl.errors import ConfigError
from rl.shown_value import shown
from rl.yaml_text import YAMLTextError, read_yaml

Kind = TypeVar("Kind", bound=Section)


SECRET = {"judge.api_key_env"}
"""Keys whose wrong value may be a secret by mistake, and is not repeated."""


class Config(Section):
    """One experiment."""

    name: str = "run"
    """Names the run folder."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of samples, selection, buffer and learner; the prompts of `grid` have `task.seed`."""
    steps: Count = 100
    """Policy steps."""
    max_staleness: Annotated[int, Field(ge=0)] = 1
    """Policy steps that sampling may run ahead of the learner; 0 is strictly on-policy."""
    output_dir: str | None = None
    """The run folder; null for `runs/NAME-TIME`."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 50
    """Policy steps between checkpoints; 0 for the beginning and the end only."""
    keep_checkpoints: Count = 2
    """Checkpoints that stay; older ones are deleted."""
    deadline: Positive = 600
    """Seconds after which a worker that has not answered is lost."""
    record: bool = False
    """Whether all rollouts, labels and scores are written to the run's `stream` folder, for reports and replays."""
    task: TaskConfig = TaskConfig()
    policy: PolicyConfig = PolicyConfig()
    engine: EngineConfig = EngineConfig()
    learner: LearnerConfig = LearnerConfig()
    value: ValueConfig = ValueConfig()
    annotation: AnnotationConfig = AnnotationConfig()
    judge: JudgeConfig = JudgeConfig()
    selection: SelectionConfig = SelectionConfig()
    mprm: MPRMConfig = MPRMConfig()
    outcome_model: OutcomeModelConfig = OutcomeModelConfig()
    watch: WatchConfig = WatchConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    recovery: RecoveryConfig = RecoveryConfig()
    replay: ReplayConfig = ReplayConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        check_fit(self)
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read an experiment's YAML file and apply ``key.sub=value`` overrides (values are YAML).

    Raises:
        ConfigError: One line that names file, key, value and what is allowed.
    """
    return load_section(Config, path, overrides)


def load_section(kind: type[Kind], path: str | Path, overrides: Sequence[str] = ()) -> Kind:
    """Read a YAML file that holds a section of this kind, and apply overrides.

    Raises:
        ConfigError: One line that names file, key, value and what is allowed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # a ValueError is a text in another encoding, or no path
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    try:
        values = read_yaml(text)
    except YAMLTextError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}; allowed is a mapping of keys to values")
    for override in overrides:
        _override(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error, kind)}") from None


def save_config(config: Config, path: Path) -> None:
    """Write every field, defaults too, as YAML that `load_config` reads."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{shown(override)}: an override is key.sub=value")
    try:
        value = read_yaml(text)
    except YAMLTextError as error:
        raise ConfigError(f"{shown(override)}: the value is not YAML; quote what has brackets: {error}") from None
    *sections, last = key.split(".")
    for section in sections:
        there = values.get(section, {})
        if not isinstance(there, dict):
            raise ConfigError(f"{shown(override)}: {section} is a value, not a section")
        # A copy, since two sections of a file may be one, by an alias.
        values[section] = values = dict(there)
    values[last] = value


def _first_problem(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first of pydantic's complaints as one line; the count of the others follows."""
    first, *others = error.errors()
    # Where one of several types is allowed, pydantic adds which one it tried.
    key = ".".join(str(part) for part in first["loc"] if not re.search(r"[\[(]", str(part)))
    more = f" (and {len(others)} more)" if others else ""
    if first["type"] == "extra_forbidden":
        return f"{key}: no such key; allowed here: {', '.join(_keys(kind, first['loc'][:-1]))}{more}"
    if first["type"] == "missing":
        return f"{key}: is missing{more}"
    message = str(first.get("ctx", {}).get("error", first["msg"]))
    if first["type"] == "model_type":
        message = f"input should be a section with keys among {', '.join(_keys(kind, first['loc']))}"
    message = message[0].lower() + message[1:].replace("valid tuple", "list").replace("valid dictionary", "mapping")
    value = "***" if key in SECRET else shown(first["input"])
    return f"{key}: {value} is not allowed: {message}{more}" if key else f"{message}{more}"


def _keys(kind: Any, sections: Sequence[str | int]) -> list[str]:
    for section in sections:
        kind = kind.model_fields[str(section)].annotation
    return list(kind.model_fields)
