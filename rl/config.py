"""What an experiment is: typed, documented fields, read from YAML and ``key.sub=value`` overrides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from selection.bis_posterior import PRIOR, THRESHOLD

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class ConfigError(ValueError):
    """The user's configuration is wrong; the message says which key, which value, and what is allowed."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("input should be a number")
        return value


class TaskConfig(_Section):
    """Where prompts come from, and how an answer is read and judged."""

    name: str = "grid"
    """`grid` (procedural, embedded), `files` (JSON lines or Parquet), or `package.module:Name` of your own."""
    difficulty: Annotated[int, Field(ge=1, le=3)] = 2
    """Of `grid`: 1 easy to 3 hard."""
    seed: int = 0
    """Of `grid`: which world of pictures; train and held-out prompts never overlap within one."""
    train_files: tuple[str, ...] = ()
    """Of `files`: training prompts."""
    heldout_files: tuple[str, ...] = ()
    """Of `files`: prompts for evaluation only."""
    columns: dict[str, str] = {}
    """Of `files`: which column holds `question`, `answer`, `images`, `source`, where the names differ."""
    instruction: str = ""
    """Of `files`: added to every question, for example how to write steps and the final answer."""
    verifier: str = "exact"
    """`exact` (text after "Answer:"), `boxed`, or `package.module:name` of your own."""
    step_separator: str = r"\n"
    """Regular expression between written steps; `\\n\\n` for most chat models."""
    answer_marker: str | None = "Answer:"
    """Regular expression that begins the final answer, which is not a step; null if the answer is in the last step."""

    @field_validator("step_separator", "answer_marker")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        try:
            if value is not None and re.match(f"(?:{value})+", ""):
                raise ValueError("input should be a regular expression that does not match empty text")
        except re.error as error:
            raise ValueError(f"input should be a regular expression: {error}") from None
        return value


class PolicyConfig(_Section):
    """The model that learns to reason."""

    checkpoint: str = "grid_policy"
    """A Transformers vision-language checkpoint (folder or hub name); `grid_policy` is the one shipped with Sieve."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights and computation."""
    trust_remote_code: bool = False
    """Whether code that comes with a checkpoint may run."""


class EngineConfig(_Section):
    """What samples rollouts and Monte-Carlo continuations."""

    kind: Literal["vllm", "hf"] = "vllm"
    """`vllm`, or `hf` (Transformers; slow, needs nothing)."""
    count: Count = 1
    """Engines, each a Ray actor; requests for one prompt always go to the same engine."""
    temperature: Positive = 1.0
    """Sampling temperature."""
    max_completion_tokens: Count = 64
    """Most tokens of an answer."""
    max_model_len: Count = 256
    """Most tokens of prompt and answer together."""
    images_per_prompt: Count = 1
    """Most images of one prompt."""
    max_num_seqs: Count = 128
    """Sequences decoded at once."""
    kv_cache_gib: Count = 1
    """Key-value cache on a CPU, GiB."""
    gpu_memory_utilization: Share = 0.45
    """Share of its GPU that vLLM takes."""
    num_cpus: Annotated[float, Field(ge=0)] = 1
    """CPUs that Ray reserves for each engine; also its threads."""
    num_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray reserves for each engine; fractions share a GPU."""


class LearnerConfig(_Section):
    """How the policy is updated."""

    prompts: Count = 16
    """Prompts of one step."""
    samples: Annotated[int, Field(ge=2)] = 8
    """Rollouts of each prompt: the group size."""
    loss: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "dapo"
    """TRL's loss: how the clipped objective is averaged over tokens and rollouts."""
    credit: str = "progress"
    """Credit rule: `outcome`, `progress`, or `package.module:name` of your own."""
    learning_rate: Positive = 1e-4
    """Of AdamW, constant."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of AdamW."""
    max_grad_norm: Positive = 1.0
    """Gradients longer than this are scaled down to it."""
    clip: Positive = 0.2
    """Clipping range of the probability ratio."""
    micro_batch: Count = 64
    """Rollouts in one forward and backward pass."""
    num_cpus: Annotated[float, Field(ge=0)] = 0.5
    """CPUs that Ray reserves."""
    num_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray reserves."""


class AnnotationConfig(_Section):
    """Monte-Carlo step labels."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of each step's rollouts that is annotated; with `triage`, that is looked at."""
    continuations: Count = 8
    """N: most continuations sampled from the end of each written step."""
    budget: Literal["fixed", "first_success", "sequential", "triage"] = "fixed"
    """`fixed` (always N), `first_success` (until one is right), `sequential` (until it is sure enough whether the
    success rate is above `threshold`), or `triage` (probe all rollouts, then label the most promising ones)."""
    first_error: Literal["ignore", "stop", "search"] = "ignore"
    """`ignore` labels every step; `stop` leaves out the steps after a first one without success; `search` finds that
    step by binary search, assuming that errors are never repaired."""
    error: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Of `sequential`: the chance of a wrong decision at which a step is settled."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Of `sequential`: the success rate above which a step counts as right."""
    prior: tuple[Positive, Positive] = (0.5, 2.5)
    """Of `sequential`: a and b of the Beta prior of a step's success rate."""
    outcome_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    """What a rollout's own outcome counts at each of its steps, in continuations; 0 for nothing."""
    share_prefixes: bool = False
    """Whether rollouts of one group that begin alike share the counts of what they have in common, sampled once."""
    probe: Annotated[int, Field(ge=0)] = 2
    """Of `triage`: continuations a step that every rollout gets before the choice; 0 to choose without."""
    triage_ratio: Share = 0.25
    """Of `triage`: share of the rollouts of each source that is labelled."""
    triage_by: Literal["counts", "mprm"] = "counts"
    """Of `triage`: whether the choice rests on probe and outcomes alone, or on the MPRM's step scores as well."""
    triage_policy: Literal["fixed", "first_success", "sequential"] = "fixed"
    """Of `triage`: how the chosen rollouts are labelled."""

    @field_validator("probe")
    @classmethod
    def _leaves_something_to_label(cls, value: int, info: ValidationInfo) -> int:
        most = info.data.get("continuations")
        if info.data.get("budget") == "triage" and most is not None and value > most:
            raise ValueError(f"input should be at most annotation.continuations, {most}")
        return value


class SelectionConfig(_Section):
    """The streaming buffer: which annotated rollouts the MPRM learns from."""

    selector: str = "bis"
    """`bis` (Balanced-Information Score), `bis_posterior`, `bis_visual`, `random`, `mixed`, `reliable`, `low_mc`,
    `hard` (the MPRM's loss), `uncertain` (its entropy), or `package.module:Name` of your own."""
    alpha: Annotated[float, Field(ge=0)] = 0.05
    """BIS: weight of reliability where labels are not mixed; the paper uses 0.05 at ratio 0.25 and 0.2 at 0.1."""
    prior: tuple[Positive, Positive] = PRIOR
    """Of `bis_posterior`: a and b of the Beta prior of a step's success rate."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = THRESHOLD
    """Of `bis_posterior`: the success rate above which a step is truly positive."""
    visual_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of `bis_visual`: how much the entropy of the image's features counts; 0 for `bis`."""
    keep_ratio: Share = 0.5
    """Share of each source's rollouts to keep."""
    capacity: Count = 2048
    """Most rollouts held, those in reserve included."""
    half_life: Annotated[float, Field(ge=0)] = 0
    """Policy steps after which a rollout's score counts half; 0 for never."""
    max_all_negative: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Largest share of a source's kept rollouts that may have no positive step; 1 for no limit."""
    draw: Literal["uniform", "proportional", "top"] = "uniform"
    """Which kept rollouts an update of the MPRM takes: any, by chance in proportion to the score, or the best ones."""
    fresh: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of an update's rollouts that it has not seen yet, the rest being replayed; null for no difference."""


class MPRMConfig(_Section):
    """The multimodal process reward model."""

    checkpoint: str | None = None
    """Where it starts from; null for the policy's own checkpoint."""
    every: Count = 2
    """Policy steps between two updates."""
    batches: Count = 8
    """Optimizer steps of one update."""
    batch_size: Count = 64
    """Rollouts of one optimizer step."""
    label: str = "hard"
    """Label rule: `hard` (1 if any continuation was right), `soft` (share of right ones), or `package.module:name`."""
    likelihood: bool = True
    """Whether scores also use how likely the MPRM finds the text; costs the logits of every answer token."""
    warm_start: tuple[str, ...] = ()
    """Annotation files in VisualPRM400K's format, or folders of `*.jsonl`, to learn from before the first step."""
    warm_start_images: str | None = None
    """The folder that their image paths are relative to; null for each file's own folder."""
    warm_start_epochs: Count = 1
    """Passes over them."""
    learning_rate: Positive = 1e-4
    """Of AdamW, constant."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Of AdamW."""
    num_cpus: Annotated[float, Field(ge=0)] = 0.5
    """CPUs that Ray reserves."""
    num_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray reserves."""

    @property
    def lesson_size(self) -> int:
        """Rollouts of one update."""
        return self.batches * self.batch_size


class EvaluationConfig(_Section):
    """Held-out evaluation, at the start, at the end, and in between."""

    prompts: Count = 512
    """Held-out prompts, always the same."""
    samples: Count = 2
    """Answers sampled for each, at the training temperature."""
    every: Annotated[int, Field(ge=0)] = 0
    """Policy steps between evaluations; 0 for start and end only."""


class Config(_Section):
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
    selection: SelectionConfig = SelectionConfig()
    mprm: MPRMConfig = MPRMConfig()
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
    key = ".".join(str(part) for part in first["loc"])
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
