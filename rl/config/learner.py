"""The sections of an experiment's configuration on how the policy learns, and on what must not happen meanwhile."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from rewards.section import (
    AdamW,
    Count,
    Positive,
    Section,
    Share,
    Weight,
)
from rl.config.trl_arguments import Correction, Loss, Sharding

Schedules = Literal[
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "polynomial",
    "inverse_sqrt",
    "warmup_stable_decay",
]


class LearnerConfig(Section):
    """How the policy is updated."""

    prompts: Count = 16
    """Prompts of one step."""
    samples: Annotated[int, Field(ge=2)] = 8
    """Rollouts of each prompt: the group size."""
    algorithm: Literal["grpo", "rloo", "reinforce_pp", "reinforce_pp_baseline", "ppo"] = "grpo"
    """What rewards are compared with: `grpo` (the group's mean and spread), `rloo` (the mean of the others in the
    group), `reinforce_pp` (the batch), `reinforce_pp_baseline` (the group's mean, then the batch's spread), or `ppo` (a
    value model; see the section `value`)."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Of `grpo`: whose standard deviation rewards are divided by, as TRL's `scale_rewards`."""
    loss: Loss = "dapo"
    """TRL's loss: how the objective is clipped, and averaged over tokens and rollouts. `cispo` takes
    `trl.epsilon_high`, 5 unless given, as the bound of the ratio."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of `trl.GRPOConfig` that shape its loss, by their own names, for example `{epsilon_high: 0.28,
    importance_sampling_level: sequence}`."""
    credit: str = "progress"
    """Credit rule: `outcome`, `process`, `additive`, `ps_grpo`, `min_form`, `progress`, `monte_carlo`, or
    `package.module:name` of your own; with `ppo`, what each token earns: `outcome`, `process`, `additive` or
    `progress`."""
    separator_advantages: bool = True
    """Whether the tokens between two steps (`task.step_separator`) get the advantage of the step that they end; false
    for none, and `min_form` then does without the token that ends the answer, too, as PURE does."""
    reuse_continuations: bool = False
    """Whether the policy learns from the continuations that label the steps, too: each is compared with its siblings
    at the same prefix, which itself is not learned from again. The policy's step then waits for the labels."""
    continuation_weight: Positive = 0.25
    """Of `reuse_continuations`: what the advantages of continuations are scaled by. At 1 the many continuations of few
    prefixes outweigh the rollouts, of which each is another sample of the whole answer."""
    dynamic_sampling: Literal["off", "drop", "refill"] = "off"
    """Groups whose rollouts are all right or all wrong: trained on (`off`), left out (`drop`), or replaced by groups of
    further prompts (`refill`). A signal in such groups that comes from step scores, from a
    verifier's score, from `task.rewards`, from an outcome model, or from a penalty is kept by `off` alone."""
    refill_rounds: Count = 4
    """Of `refill`: most rounds of sampling for one step; what is still missing then is done without."""
    truncated: Literal["keep", "mask", "penalise"] = "keep"
    """Rollouts cut off at the length limit: as all others (`keep`), not trained on (`mask`), or worth less
    (`penalise`)."""
    truncation_penalty: Weight = 0.5
    """Of `penalise`: what is taken from their outcome."""
    optimizer: AdamW = "adamw"
    """`adamw` (PyTorch's, fused), or `adamw_8bit`, whose two moments take a byte a weight each in place of four; of a
    value model, too."""
    learning_rate: Positive = 1e-4
    """Of AdamW; the largest one, where there is a schedule."""
    schedule: Schedules = "constant"
    """How it changes from policy step to policy step, over `steps`: Transformers' `lr_scheduler_type`."""
    warmup_steps: Weight = 0
    """Policy steps over which it rises from 0; below 1, the share of `steps`, as Transformers has it."""
    schedule_arguments: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the schedule, as Transformers' `lr_scheduler_kwargs`: `{num_cycles: 2}`, `{min_lr_rate:
    0.1}`."""
    weight_decay: Weight = 0.0
    """Of AdamW."""
    max_grad_norm: Positive = 1.0
    """Gradients longer than this are scaled down to it."""
    clip: Positive = 0.2
    """Clipping range of the probability ratio; TRL's `epsilon`."""
    micro_batch: Count = 64
    """Rollouts in one forward and backward pass of one rank."""
    micro_batch_tokens: Count | None = None
    """Most tokens of such a pass, padding and those of pictures included, in place of `micro_batch`."""
    pack: bool = True
    """Whether the rollouts of one prompt in a micro-batch are read in one row, the prompt once: the same numbers for
    less work. A model whose attention cannot be held to that reads each in a row of its own, as with false."""
    mini_batches: Count = 1
    """Optimizer steps of one pass over a step's rollouts."""
    epochs: Count = 1
    """Passes over a step's rollouts."""
    max_skipped: Annotated[int, Field(ge=0)] = 3
    """Policy steps in a row that are left out, and counted, because loss or gradient is not finite; the next one stops
    the run."""
    correction: Correction = "none"
    """How what the sampler's log-probabilities differ from the learner's is made good (TRL's
    `vllm_importance_sampling_mode`): weights of tokens or whole rollouts, cut off at `correction_max` or left out
    beyond it. `none` clips the ratio to the sampler itself, and needs no further pass."""
    correction_max: Positive = 3.0
    """Largest weight of `correction`."""
    correction_min: Weight = 0.0
    """Of the masks: smallest weight."""
    kl: Weight = 0.0
    """What the divergence from a reference policy costs; TRL's `beta`."""
    reference_every: Annotated[int, Field(ge=0)] = 0
    """Policy steps after which the reference becomes the policy of that time; 0 for the first one throughout."""
    lora_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of adapters on the language model, which is else left as it is; 0 to train all of it."""
    freeze_vision: bool = False
    """Whether the vision tower stays as it is."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again on the way back, instead of kept: slower, smaller."""
    activation_offload: bool = False
    """Whether what `gradient_checkpointing` still keeps, each layer's input, waits in the machine's own memory: slower
    again, for long rows."""
    liger: bool = False
    """Whether Liger's fused kernels are used, as far as TRL offers them; wants the package `liger-kernel` and a GPU."""
    peak_tflops: Positive | None = None
    """What the learner's device can do, for `perf/flops_utilisation`; null for the figure of a known GPU."""
    ranks: Count = 1
    """Processes that share the work, each a Ray actor."""
    sharding: Sharding = "ddp"
    """Of several ranks: whether each holds all of weights, gradients and optimizer (`ddp`), or a part of them (`fsdp2`,
    or `deepspeed` where it is installed)."""
    num_cpus: Weight = 0.5
    """CPUs that Ray reserves for each rank."""
    num_gpus: Weight = 0
    """GPUs that Ray reserves for each rank."""


class ValueConfig(Section):
    """The value model of `learner.algorithm: ppo`; without it these keys say nothing."""

    backbone: Literal["policy", "own"] = "policy"
    """Whether the value head reads the policy's last hidden states, and trains them too, or a model of its own."""
    checkpoint: str | None = None
    """Of `own`: where that model starts from; null for the policy's checkpoint."""
    discount: Share = 1.0
    """gamma."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.95
    """lambda of generalized advantage estimation: 1 trusts returns alone, 0 the next value alone."""
    clip: Positive = 0.2
    """How far a value may move from what it was at sampling time before its loss is clipped."""
    coefficient: Positive = 0.5
    """What the value loss counts beside the policy's."""
    learning_rate: Positive = 1e-3
    """Of the head, and of a model of its own."""
    warm_up: Annotated[int, Field(ge=0)] = 0
    """Policy steps at the start in which only the value model learns."""


class WatchConfig(Section):
    """A watch for reward hacking: what happens when rollouts drift to what the MPRM likes and the verifier does not."""

    action: Literal["off", "warn", "stop"] = "warn"
    """Nothing, a line in the terminal, or the end of the run with a checkpoint."""
    baseline: Count = 5
    """The first policy steps, whose mean later ones are compared with."""
    window: Count = 5
    """Latest policy steps, whose mean is compared."""
    gap: Positive | None = 0.2
    """How far the MPRM's score of whole answers may rise above the verified accuracy, counted from 0, or from where it
    was at first if that is higher; null for any."""
    steps: Positive | None = 0.5
    """Share by which the steps of an answer may become more or fewer; null for any."""
    step_tokens: Positive | None = 0.5
    """Share by which the tokens of a step may become more or fewer; null for any."""
    repeated: Share | None = 0.2
    """Share of steps by which those that repeat an earlier step of the same answer may become more; null for any."""
    hopeless_after: Annotated[int, Field(ge=0)] = 10
    """Policy steps in a row, or all of a shorter run, without what is to be learned from, after which a line says so,
    once each: no right answer, no group with right and wrong ones, an empty buffer, step labels of one kind alone,
    entropy at 0. 0 for never."""
