"""The sections of an experiment's configuration: typed, documented fields with their defaults."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Literal

import regex
from pydantic import AliasChoices, Field, field_validator, model_validator

from rewards.annotation.judge_config import JudgeConfig
from rewards.endpoints.served_config import ServedConfig
from rewards.models.named_rules import RULES
from rewards.models.truncation import Truncation
from rewards.outcome.config import OutcomeModelConfig
from rewards.process_model.config import MPRMConfig
from rewards.section import Count, Positive, Section, Share, Weight
from rl.config.labels import AnnotationConfig
from rl.config.learner import LearnerConfig, ValueConfig, WatchConfig
from rl.config.running import EvaluationConfig, RecoveryConfig, ReplayConfig
from rl.config.users_parts import names_a_function
from selection.config import SelectionConfig

LongPrompts = Literal["refuse", "drop", "shrink"]
LEAST_ANSWER = 2
"""Tokens that a prompt leaves: one of the answer, and one more to continue it by."""


class TaskConfig(Section):
    """Where prompts come from, and how an answer is read and judged."""

    name: str = "grid"
    """`grid` (procedural, embedded), `beliefs` (the same for a policy with false beliefs), `files` (tables: files,
    folders, or the hub), or `package.module:Name` of your own."""
    difficulty: Annotated[int, Field(ge=1, le=3)] = 2
    """Of `grid` and `beliefs`: 1 easy to 3 hard, of `beliefs` in its pictures alone."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of `grid` and `beliefs`: which stream of pictures; train and held-out prompts never overlap within one."""
    train_files: tuple[str, ...] = ()
    """Of `files`: training prompts, each a file (`.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet`),
    `FOLDER[:CONFIG]:SPLIT` or `hub:OWNER/NAME[@REVISION][:CONFIG]:SPLIT`."""
    heldout_files: tuple[str, ...] = ()
    """Of `files`: prompts for evaluation only."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Of `files`: which column holds `question`, `answer`, `images`, `source`, where the names differ, and `id`,
    `choices`, `unit`, `precision`, where there are such; `image_*` for several, `metadata.source` into a struct, empty
    `images` for none."""
    image_root: str | None = None
    """Of `files`: the folder that image paths are relative to, and must not lead out of; null for each table's own."""
    shuffle: bool = True
    """Of `files`: whether training prompts come in an order by chance, another one each pass, that `seed` decides;
    held-out ones stay as they stand."""
    mixture: dict[str, Positive] = Field(default_factory=dict)
    """Of `files`: the share of the training prompts of each source, on any scale; a source that is not named has none.
    Empty to take every row once a pass."""
    min_pixels: Count | None = None
    """Of `files`: fewest pixels of a picture; a smaller one is made larger before any engine or model sees it."""
    max_pixels: Count | None = None
    """Of `files`: most pixels of a picture; a larger one is made smaller before any engine or model sees it."""
    max_prompt_tokens: Count | None = None
    """Of `files`: most tokens of a prompt, with its pictures; null for what `engine.max_model_len` has room for."""
    long_prompts: LongPrompts = "refuse"
    """Of `files`: what becomes of a longer prompt, or one with more pictures than `engine.images_per_prompt`: `refuse`
    (nothing starts), `drop` (it is left out), or `shrink` (its pictures become smaller until it fits)."""
    system: str = ""
    """System prompt before every question, of any task; empty for the chat template's own, if it has one. A template
    that knows none is refused: there, `instruction` can say the same in the question."""
    instruction: str = ""
    """Of `files`: added to every question, for example how to write steps and the final answer."""
    verifier: str = "exact"
    """`exact` (as text), `boxed`, `numeric`, `multiple_choice`, `latex` (math-verify), which all find the answer in one
    way, see docs/verification.md; or `package.module:name` of your own, which may be a reward function of TRL's or
    verl's."""
    weights: dict[str, Weight] = Field(default_factory=dict)
    """Of a verifier of your own that gives its score in parts: what each counts, 1 where it is not named, for example
    `{accuracy: 1, format: 0.5}`; the score is their weighted mean."""
    rewards: dict[str, float] = Field(default_factory=dict)
    """What is added to the verifier's score, with its weight: `overlong` (DAPO's soft punishment, 0 to -1), `format` (1
    if the completion has the form `format`), `repetition` (0 to -1), or `package.module:name` of your own. They change
    the reward, and not whether an answer is right."""
    overlong_tokens: Count | None = None
    """Of `overlong`: tokens before `engine.max_completion_tokens` at which it begins; null for a fifth of these, as
    published."""
    format: str = r"\s*<think>.*?</think>\s*<answer>.*?</answer>\s*"
    """Of `format`: regular expression that the whole completion is to match; a dot stands for a line break, too.
    A completion that takes longer than 3 seconds to compare does not match."""
    repetition_tokens: Count = 3
    """Of `repetition`: tokens of what counts as repeated."""
    tolerance: Weight = 1e-6
    """Of `numeric`: largest difference to the reference, as a share of it."""
    absolute_tolerance: Weight = 0.0
    """Of `numeric`: largest difference as it is; the larger of the two counts."""
    steps: Annotated[str, Field(validation_alias=AliasChoices("steps", "step_separator"))] = "line"
    """Where written steps end: `line`, `blank_line` (most chat models), `numbered`, `sentence`, a regular expression of
    what stands between them, or `package.module:name` of your own. Formerly `step_separator`."""
    answer_marker: str | None = "Answer:"
    """Regular expression that begins the final answer, which is not a step; null if the answer is in the last step."""
    perception_marker: str | None = r"\[Visual Elements\]"
    """Regular expression that begins a step, or a run of steps, on what the image shows; null for none."""
    reasoning_marker: str | None = r"\[Reasoning\]"
    """Regular expression that begins a step, or a run of steps, that goes on from there; null for none."""

    @model_validator(mode="before")
    @classmethod
    def _is_named_once(cls, values: Any) -> Any:
        if isinstance(values, dict) and {"steps", "step_separator"} <= values.keys():
            raise ValueError("steps and step_separator are one key under two names; allowed is one of them")
        return values

    @field_validator("steps")
    @classmethod
    def _is_step_rule(cls, value: str) -> str:
        if value in RULES or names_a_function(value):
            return value
        if meant := get_close_matches(value.lower(), RULES, n=1, cutoff=0.75):
            raise ValueError(f"did you mean {meant[0]}? For steps with this word between them write (?:{value})")
        return str(cls._is_expression(value))

    @field_validator("format")
    @classmethod
    def _is_form(cls, value: str) -> str:
        try:
            regex.compile(value)
        except (regex.error, OverflowError, RecursionError) as error:
            raise ValueError(f"input should be a regular expression: {error}") from None
        return value

    @field_validator("answer_marker", "perception_marker", "reasoning_marker")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        try:
            if value is not None and regex.match(f"(?:{value})+", ""):
                raise ValueError("input should be a regular expression that does not match empty text")
        except (regex.error, OverflowError, RecursionError) as error:
            raise ValueError(f"input should be a regular expression: {error}") from None
        return value


class PolicyConfig(Section):
    """The model that learns to reason."""

    checkpoint: str = "grid_policy"
    """A Transformers checkpoint (folder or hub name), of vision and language, or of language alone for tasks without
    pictures; `grid_policy` and `beliefs_policy` are shipped with Sieve."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights and computation."""
    trust_remote_code: bool = False
    """Whether code that comes with a checkpoint may run."""


class EngineConfig(Section):
    """What samples rollouts and Monte-Carlo continuations."""

    kind: Literal["vllm", "hf"] = "vllm"
    """`vllm`, or `hf` (Transformers; slow, needs nothing)."""
    count: Count = 1
    """Engines, each a Ray actor; requests for one prompt that are asked together go to the same engine."""
    temperature: Positive = 1.0
    """Sampling temperature (with `vllm` 0.01 to 2), of rollouts, continuations and held-out answers alike, as are the
    three keys below; the learner scores rollouts by the distribution that they were drawn from."""
    top_p: Share = 1.0
    """Draws from the fewest of the most likely tokens that have so much of the probability together; 1 from all."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Draws from so many of the most likely tokens; 0 from all."""
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Draws from tokens at least so likely, as a share of the most likely one; 0 from all."""
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
    tensor_parallel: Count = 1
    """Of `vllm`: GPUs (on a CPU: processes) that each engine spreads its weights over."""
    sleep: bool = False
    """Of `vllm` on a GPU that it shares with the learner: whether it gives its memory back while the learner works;
    wants `max_staleness: 0`."""
    segment_tokens: Count | None = None
    """Tokens after which a rollout that has not ended makes room: it goes on in the next round, perhaps with newer
    weights, while batches are made of the groups that are finished; null to wait for all. Wants `max_staleness` 1 or
    more, and gains little below 2."""
    weight_transfer: Literal["object_store", "nccl", "ipc"] = "object_store"
    """How new weights travel: through Ray's object store (any machine), or by vLLM's own transfer between GPUs: `nccl`,
    or `ipc` where learner and engine share one."""
    sync_adapters: bool = True
    """Of `vllm` with `learner.lora_rank`: whether the adapters alone travel and are applied in the engine, instead of
    whole weights with the adapters merged in, as they do on a GPU with `policy.dtype` float32."""

    @property
    def truncation(self) -> Truncation:
        """Which tokens it draws from."""
        return Truncation(self.top_k, self.top_p, self.min_p)


class Sections(Section):
    """All keys of an experiment, whether or not they fit together."""

    name: str = "run"
    """Names the run folder."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of samples, selection, buffer and learner; the prompts of `grid` have `task.seed`."""
    steps: Count = 100
    """Policy steps."""
    max_staleness: Annotated[int, Field(ge=0)] = 1
    """Policy steps that sampling may run ahead of the learner; 0 is strictly on-policy."""
    output_dir: str | None = None
    """The run folder, where `~` is yours; null for `runs/NAME-TIME`."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 50
    """Policy steps between checkpoints; 0 for the beginning and the end only."""
    keep_checkpoints: Count = 2
    """Checkpoints that stay; older ones are deleted."""
    workers: Literal["ray", "inline"] = "ray"
    """Where the models live: `ray` (each in a process of its own, or in several) or `inline` (all of them in the run's
    own process, where one waits for the other; wants `engine.kind: hf`): for many small runs beside each other."""
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
    served: ServedConfig = ServedConfig()
    outcome_model: OutcomeModelConfig = OutcomeModelConfig()
    watch: WatchConfig = WatchConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    recovery: RecoveryConfig = RecoveryConfig()
    replay: ReplayConfig = ReplayConfig()

    @property
    def places_mprm(self) -> bool:
        """Whether the run has a process reward model of its own to place, and not a served one or none."""
        return self.mprm.enabled and self.served.endpoint is None

    @property
    def waits_for_counts(self) -> list[str]:
        """The settings that have a policy step begin once all of its counts are there: it learns from continuations, or
        takes the memory of engines that sample them."""
        waits = {
            "learner.reuse_continuations": self.learner.reuse_continuations,
            "engine.sleep": self.engine.sleep,
        }
        return [key for key, is_set in waits.items() if is_set]

    @property
    def asks_ahead(self) -> bool:
        """Whether the engines are asked for late continuations and the next rollouts in one call: neither is needed
        before new weights are, and no segment of a rollout has to be back soon."""
        return self.annotation.delay > 0 and self.max_staleness > 0 and self.engine.segment_tokens is None

    @property
    def weight_route(self) -> str:
        """How new weights come to the engines: whole ``weights`` or ``adapters`` alone through Ray's object store, or
        by vLLM's ``nccl`` or ``ipc``. On a GPU vLLM's kernels for adapters compute in bfloat16 alone."""
        engine = self.engine
        can_adapt = self.policy.dtype == "bfloat16" or not engine.num_gpus
        if engine.kind == "vllm" and engine.sync_adapters and self.learner.lora_rank and can_adapt:
            return "adapters"
        return "weights" if engine.weight_transfer == "object_store" else engine.weight_transfer
