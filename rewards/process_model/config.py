"""The section of a configuration on the multimodal process reward model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from rewards.process_model.ensemble import Combination, check_combination
from rewards.section import AdamW, Count, Positive, Section, Weight


def _fits(how: Combination, info: ValidationInfo) -> Combination:
    """Weights fit the models that judge together: the learning one and those beside it."""
    check_combination(how, 1 + len(info.data.get("beside", ())))
    return how


Combine = Annotated[Literal["mean", "minimum"] | tuple[Weight, ...], AfterValidator(_fits)]
Head = Literal["token", "value", "beta"]
InputFormat = Literal["rollout", "chat", "inline"]


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
    head: Head = "token"
    """`token` (the checkpoint's own logits of two words), `value` (two linear layers), or `beta` (the mean and
    concentration of a step's success rate, learned from the counts themselves: a score with its reliability)."""
    input_format: InputFormat = "rollout"
    """How it reads: `rollout` (as the policy wrote it), `chat` (VisualPRM: its system prompt, and one turn a step) or
    `inline` (published BIS: a marker after each step, in the assistant's turn)."""
    verdicts: tuple[str, str] = ("+", "-")
    """Of `token`: the words for right and wrong, each one token; VisualPRM's, while published BIS has Yes and No."""
    step_marker: str = "<prm>"
    """Of `inline`: what ends a step; added to the vocabulary where it is missing."""
    likelihood: bool = False
    """Of `rollout`: whether scores also use how likely the MPRM finds each step and the text so far, in nats a token,
    which costs the logits of every answer token."""
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
    warm_start_learning_rate: Positive | None = None
    """Where their learning rate begins, to fall in a straight line to `learning_rate`; null for that from the start."""
    warm_start_kept: bool = False
    """Whether they enter the buffer as well, as a source of their own: later updates then do not forget them."""
    optimizer: AdamW = "adamw"
    """As `learner.optimizer`."""
    learning_rate: Positive = 1e-4
    """Of AdamW, constant."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Of AdamW."""
    micro_batch_tokens: Count = 16384
    """Most tokens of one forward pass, padding and image tokens included."""
    pack: bool = True
    """Whether the rollouts of one prompt in a micro-batch are read in one row, the prompt once: the same numbers for
    less work. A model whose attention cannot be held to that reads each in a row of its own, as with false."""
    ranks: Count = 1
    """Processes that share the MPRM's work, each a Ray actor."""
    sharding: Literal["ddp", "fsdp2"] = "ddp"
    """Of several ranks: whether each holds all weights, or a part of them."""
    num_cpus: Annotated[float, Field(ge=0)] = 0.5
    """CPUs that Ray reserves for each rank."""
    num_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray reserves for each rank."""

    def identity(self) -> dict[str, Any]:
        """What a model is, however it goes on learning: the keys that a saved one brings itself."""
        kept = ("head", "input_format", "likelihood", "verdicts", "step_marker", "lora_rank")
        return {key: getattr(self, key) for key in kept}

    def learns_after(self, step: int) -> bool:
        """Whether an update is due after policy step ``step``, counted from 1."""
        return step % self.every == 0 and (self.until is None or step <= self.until)

    @property
    def lesson_size(self) -> int:
        """Rollouts of one update."""
        return self.batches * self.batch_size
