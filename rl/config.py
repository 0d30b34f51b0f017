"""What an experiment is, read from YAML and ``key.sub=value`` overrides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from rl.config_checks import check_fit
from rl.config_learner import LearnerConfig, ValueConfig, WatchConfig
from rl.config_outcome import OutcomeModelConfig
from rl.config_sections import (
    AnnotationConfig,
    Count,
    EngineConfig,
    EvaluationConfig,
    JudgeConfig,
    MPRMConfig,
    PolicyConfig,
    Positive,
    Section,
    SelectionConfig,
    TaskConfig,
)


class ConfigError(ValueError):
    """The user's configuration is wrong; the message says which key, which value, and what is allowed."""


class Config(Section):
    """One experiment."""

    name: str = "run"
    """Names the run folder."""
    seed: int = 0
    """Of prompts, samples, buffer and learner."""
    steps: Count = 100
    """Policy steps."""
    max_staleness: Annotated[int, Field(ge=0)] = 1
    """Policy steps that sampling may run ahead of the learner; 0 is strictly on-policy."""
    output_dir: str | None = None
    """The run folder; null for `runs/NAME-TIME`."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 50
    """Policy steps between checkpoints; 0 for the end only."""
    keep_checkpoints: Count = 2
    """Checkpoints that stay; older ones are deleted."""
    deadline: Positive = 600
    """Seconds after which a worker that has not answered stops the run."""
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

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        check_fit(self)
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply ``key.sub=value`` overrides (values are YAML).

    Raises:
        ConfigError: One line that names file, key, value and what is allowed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    try:
        values = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError) as error:  # a ValueError is a date that cannot be
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}; allowed is a mapping of keys to values")
    for override in overrides:
        _override(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from None


def save_config(config: Config, path: Path) -> None:
    """Write every field, defaults too, as YAML that `load_config` reads."""
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r}: an override is key.sub=value")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"{override!r}: the value is not YAML; quote what has brackets") from None
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{override!r}: {section} is a value, not a section")
    values[last] = value


def _first_problem(error: ValidationError) -> str:
    """The first of pydantic's complaints as one line; the count of the others follows."""
    first, *others = error.errors()
    # Where one of several types is allowed, pydantic adds which one it tried.
    key = ".".join(str(part) for part in first["loc"] if not re.search(r"[\[(]", str(part)))
    more = f" (and {len(others)} more)" if others else ""
    if first["type"] == "extra_forbidden":
        return f"{key}: no such key; allowed here: {', '.join(_keys(first['loc'][:-1]))}{more}"
    message = str(first.get("ctx", {}).get("error", first["msg"]))
    if first["type"] == "model_type":
        message = f"input should be a section with keys among {', '.join(_keys(first['loc']))}"
    message = message[0].lower() + message[1:].replace("valid tuple", "list").replace("valid dictionary", "mapping")
    return f"{key}: {first['input']!r} is not allowed: {message}{more}" if key else f"{message}{more}"


def _keys(sections: Sequence[str | int]) -> list[str]:
    model: BaseModel = Config()
    for section in sections:
        model = getattr(model, str(section))
    return list(type(model).model_fields)
