"""What an experiment is, read from YAML and ``key.sub=value`` overrides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from rl.config_outcome import OutcomeModelConfig
from rl.config_sections import (
    AnnotationConfig,
    Count,
    EngineConfig,
    EvaluationConfig,
    JudgeConfig,
    LearnerConfig,
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
    annotation: AnnotationConfig = AnnotationConfig()
    judge: JudgeConfig = JudgeConfig()
    selection: SelectionConfig = SelectionConfig()
    mprm: MPRMConfig = MPRMConfig()
    outcome_model: OutcomeModelConfig = OutcomeModelConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.task.name == "files" and not (self.task.train_files and self.task.heldout_files):
            raise ValueError("task.name is 'files': task.train_files and task.heldout_files must name files")
        if self.engine.max_completion_tokens >= self.engine.max_model_len:
            raise ValueError(
                f"engine.max_completion_tokens is {self.engine.max_completion_tokens}: it must be below "
                f"engine.max_model_len, {self.engine.max_model_len}, which holds the prompt too"
            )
        _check_evaluation(self.evaluation)
        _check_mprm(self.mprm, self.policy.dtype)
        if self.judge.endpoint is not None and not self.judge.model:
            raise ValueError("judge.endpoint is set: judge.model must name the model that it serves")
        outcome = self.outcome_model
        if outcome.reward != "rule" and not (outcome.checkpoint or outcome.pairs or outcome.harvest):
            raise ValueError(
                f"outcome_model.reward is {outcome.reward!r}: an outcome model that has learned nothing says 0.5 of "
                "everything; name outcome_model.checkpoint or outcome_model.pairs, or set outcome_model.harvest"
            )
        return self


def _check_evaluation(evaluation: EvaluationConfig) -> None:
    if evaluation.bench is None and (evaluation.bench_path or evaluation.bench_every):
        raise ValueError("evaluation.bench is null: allowed with bench_path or bench_every is the name of a benchmark")
    if evaluation.bench is not None and evaluation.bench_path is None:
        raise ValueError("evaluation.bench is set: evaluation.bench_path must name its folder")
    if evaluation.strategies_every and not evaluation.strategies:
        raise ValueError("evaluation.strategies is empty: allowed with strategies_every are names of strategies")


def _check_mprm(mprm: MPRMConfig, dtype: str) -> None:
    if mprm.likelihood and mprm.input_format != "rollout":
        raise ValueError(
            f"mprm.likelihood is true: allowed is false or null with mprm.input_format {mprm.input_format}, "
            "where the model reads what no policy wrote"
        )
    if mprm.verdicts[0] == mprm.verdicts[1]:
        raise ValueError(f"mprm.verdicts is {list(mprm.verdicts)}: allowed are two different words")
    if not any(mprm.class_weights):
        raise ValueError(f"mprm.class_weights is {list(mprm.class_weights)}: allowed is at most one 0")
    if dtype != "float32" and not mprm.lora_rank:
        raise ValueError(
            f"mprm.lora_rank is 0: most updates of a whole model are lost in policy.dtype {dtype}; allowed is 1 or "
            "more, or policy.dtype float32"
        )
    if mprm.ranks > 1 and 0 < mprm.num_gpus < 1:
        raise ValueError(
            f"mprm.num_gpus is {mprm.num_gpus:g}: allowed with several ranks is a whole GPU for each, or 0"
        )


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
        raise ConfigError(f"{override!r}: the value is not YAML") from None
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
