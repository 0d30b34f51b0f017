"""The sections of an experiment's configuration: typed, documented fields with their defaults."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from rewards.measuring.strategies import Strategy
from rewards.process_model.ensemble import check_combination
from selection.bis_posterior import PRIOR, THRESHOLD

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Combine = Literal["mean", "minimum"] | tuple[Weight, ...]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads a bare `off` as false and knows texts that no file can hold; Python counts true and false among
        the numbers."""
        if isinstance(value, str) and re.search(r"[\0\ud800-\udfff]", value):
            raise ValueError("input should be text that a file can hold: no zero, and no half of a character")
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and annotation in (int, float):
            raise ValueError("input should be a number")
        return "off" if value is False and "off" in get_args(annotation) else value


class TaskConfig(Section):
    """Where prompts come from, and how an answer is read and judged."""

    name: str = "grid"
    """`grid` (procedural, embedded), `files` (tables: files, folders, or the hub), or `package.module:Name` of your
    own."""
    difficulty: Annotated[int, Field(ge=1, le=3)] = 2
    """Of `grid`: 1 easy to 3 hard."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of `grid`: which world of pictures; train and held-out prompts never overlap within one."""
    train_files: tuple[str, ...] = ()
    """Of `files`: training prompts, each a `.jsonl` or `.parquet` file, `FOLDER[:CONFIG]:SPLIT` or
    `hub:OWNER/NAME[@REVISION][:CONFIG]:SPLIT`."""
    heldout_files: tuple[str, ...] = ()
    """Of `files`: prompts for evaluation only."""
    columns: dict[str, str] = {}
    """Of `files`: which column holds `question`, `answer`, `images`, `source`, where the names differ, and `choices`,
    `unit`, `precision`, where there are such; `image_*` for several, `metadata.source` into a struct."""
    image_root: str | None = None
    """Of `files`: the folder that image paths are relative to, and must not lead out of; null for each table's own."""
    instruction: str = ""
    """Of `files`: added to every question, for example how to write steps and the final answer."""
    verifier: str = "exact"
    """`exact` (text after "Answer:"), `boxed`, `numeric`, `multiple_choice`, `latex` (math-verify), or
    `package.module:name` of your own."""
    tolerance: Weight = 1e-6
    """Of `numeric`: largest difference to the reference, as a share of it."""
    absolute_tolerance: Weight = 0.0
    """Of `numeric`: largest difference as it is; the larger of the two counts."""
    step_separator: str = r"\n"
    """Regular expression between written steps; `\\n\\n` for most chat models."""
    answer_marker: str | None = "Answer:"
    """Regular expression that begins the final answer, which is not a step; null if the answer is in the last step."""
    perception_marker: str | None = r"\[Visual Elements\]"
    """Regular expression that begins a step, or a run of steps, on what the image shows; null for none."""
    reasoning_marker: str | None = r"\[Reasoning\]"
    """Regular expression that begins a step, or a run of steps, that goes on from there; null for none."""

    @field_validator("step_separator", "answer_marker", "perception_marker", "reasoning_marker")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        try:
            if value is not None and re.match(f"(?:{value})+", ""):
                raise ValueError("input should be a regular expression that does not match empty text")
        except re.error as error:
            raise ValueError(f"input should be a regular expression: {error}") from None
        return value


class PolicyConfig(Section):
    """The model that learns to reason."""

    checkpoint: str = "grid_policy"
    """A Transformers vision-language checkpoint (folder or hub name); `grid_policy` is the one shipped with Sieve."""
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
    whole weights with the adapters merged in."""


class AnnotationConfig(Section):
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


class SelectionConfig(Section):
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


class MPRMConfig(Section):
    """The multimodal process reward model."""

    enabled: bool = True
    """Whether there is one; without it nothing is labelled, and rewards are outcomes alone. Wants `annotation.share` 0
    and a credit rule that reads no scores."""
    checkpoint: str | None = None
    """Where it starts from; null for the policy's own checkpoint."""
    beside: tuple[str, ...] = ()
    """Folders of saved MPRMs that judge beside it, and learn nothing."""
    combine: Combine = "mean"
    """How their scores of a step become one: `mean`, `minimum`, or a list of weights, its own first."""
    every: Count = 2
    """Policy steps between two updates."""
    until: Annotated[int, Field(ge=0)] | None = None
    """Policy steps after which it learns no more; null for never."""
    batches: Count = 8
    """Optimizer steps of one update."""
    batch_size: Count = 64
    """Rollouts of one optimizer step."""
    head: Literal["token", "value", "beta"] = "token"
    """`token` (the checkpoint's own logits of two words), `value` (two linear layers), or `beta` (the mean and
    concentration of a step's success rate, learned from the counts themselves: a score with its reliability)."""
    input_format: Literal["rollout", "chat", "inline"] = "rollout"
    """How it reads: `rollout` (as the policy wrote it), `chat` (VisualPRM: one turn a step) or `inline` (published BIS:
    a marker after each step)."""
    verdicts: tuple[str, str] = ("+", "-")
    """Of `token`: the words for right and wrong, each one token; VisualPRM's, while published BIS has Yes and No."""
    step_marker: str = "<prm>"
    """Of `inline`: what ends a step; added to the vocabulary where it is missing."""
    likelihood: bool | None = None
    """Whether scores also use how likely the MPRM finds the text, which costs the logits of every answer token; null
    for yes where it reads the rollout as the policy wrote it."""
    label: str = "hard"
    """Label rule of `token` and `value`: `hard` (1 if a share above `threshold` of the continuations was right), `soft`
    (that share), or `package.module:name`."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of `hard`: tau."""
    class_weights: tuple[Weight, Weight] = (1.0, 1.0)
    """What a wrong and a right step count in the loss."""
    perception_weight: Weight = 1.0
    """What a perception step counts on top."""
    until_first_error: bool = False
    """Whether steps after a rollout's first wrong one are left out of the loss."""
    freeze_vision: bool = False
    """Whether the vision tower stays as it is."""
    lora_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of adapters on the language model, which is else left as it is; 0 to train all of it."""
    guard_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the annotated groups that the MPRM never learns from, kept to judge its updates by; 0 for no guard."""
    guard_capacity: Count = 256
    """Most rollouts held back; the oldest go first."""
    guard_margin: Annotated[float, Field(ge=0, le=1)] | None = 0.05
    """An update that lowers the area under the ROC curve within groups by more is taken back; null to only watch."""
    warm_start: tuple[str, ...] = ()
    """Annotation files in VisualPRM400K's format, or folders of `*.jsonl`, to learn from before the first step."""
    warm_start_images: str | None = None
    """The folder that their image paths are relative to, and must not lead out of; null for each file's own folder."""
    warm_start_epochs: Count = 1
    """Passes over them."""
    learning_rate: Positive = 1e-4
    """Of AdamW, constant."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Of AdamW."""
    micro_batch_tokens: Count = 16384
    """Most tokens of one forward pass, padding and image tokens included."""
    ranks: Count = 1
    """Processes that share the MPRM's work, each a Ray actor."""
    sharding: Literal["ddp", "fsdp2"] = "ddp"
    """Of several ranks: whether each holds all weights, or a part of them."""
    num_cpus: Annotated[float, Field(ge=0)] = 0.5
    """CPUs that Ray reserves for each rank."""
    num_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray reserves for each rank."""

    @field_validator("combine")
    @classmethod
    def _has_a_weight_for_each(cls, value: Combine, info: ValidationInfo) -> Combine:
        return check_weights(value, info)

    @property
    def uses_likelihood(self) -> bool:
        """What `likelihood` comes to."""
        return self.input_format == "rollout" if self.likelihood is None else self.likelihood

    def learns_after(self, step: int) -> bool:
        """Whether an update is due after policy step ``step``, counted from 1."""
        return step % self.every == 0 and (self.until is None or step <= self.until)

    @property
    def lesson_size(self) -> int:
        """Rollouts of one update."""
        return self.batches * self.batch_size


class EvaluationConfig(Section):
    """Held-out evaluation, at the start, at the end, and in between."""

    prompts: Count = 512
    """Held-out prompts, always the same."""
    samples: Count = 2
    """Answers sampled for each, at the training temperature."""
    every: Annotated[int, Field(ge=0)] = 0
    """Policy steps between evaluations; 0 for start and end only."""
    strategies: tuple[Strategy, ...] = ()
    """Test-time strategies to try on held-out prompts, too, judged by the MPRM; see `sieve eval policy --help`."""
    strategy_n: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 4, 8)
    """Their numbers of samples."""
    strategy_prompts: Count = 128
    """Their held-out prompts."""
    strategies_every: Annotated[int, Field(ge=0)] = 0
    """Policy steps between two of these evaluations; 0 for start and end only."""
    bench: Literal["visualprocessbench", "processbench"] | None = None
    """A benchmark of people's step labels that the MPRM is evaluated on, too; null for none."""
    bench_path: str | None = None
    """Its folder: JSON lines as published, and the images they name."""
    bench_every: Annotated[int, Field(ge=0)] = 0
    """Policy steps between evaluations on it; 0 for start and end only."""


def check_weights(value: Combine, info: ValidationInfo) -> Combine:
    """Weights fit the models that judge together: the learning one and those beside it."""
    check_combination(value, 1 + len(info.data.get("beside", ())))
    return value
