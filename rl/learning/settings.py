"""How the policy learns: plain values, without any heavy import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rl.config.trl_arguments import Correction, Loss, Sharding

if TYPE_CHECKING:
    from rl.learning.critic import CriticSettings


@dataclass(frozen=True)
class LearnerSettings:
    """What `rl.learning.learner.PolicyLearner` does with its experiences.

    Attributes:
        loss: TRL's loss: how the objective is clipped, and averaged over tokens and rollouts.
        trl: Further arguments of `trl.GRPOConfig`; see `rl.config.trl_arguments`.
        learning_rate, weight_decay, max_grad_norm: Of AdamW, at a constant rate.
        clip: Clipping range of the probability ratio, epsilon.
        micro_batch: Most rollouts in one forward and backward pass of one rank; no result depends on it.
        mini_batches: Optimizer steps of one pass over a policy step's rollouts.
        epochs: Passes over them.
        max_skipped: Policy steps in a row that may be left out because loss or gradient is not finite.
        correction, correction_max, correction_min: See `rl.learning.rows`.
        kl: What the divergence from the reference policy costs, TRL's beta; see `rl.learning.reference`.
        reference_every: Policy steps after which the reference becomes the policy of that time; 0 for never.
        lora_rank: Rank of the adapters on the language model, which is else left as it is; 0 to train all of it.
        freeze_vision: Whether the vision tower stays as it is.
        gradient_checkpointing: Whether activations are computed again on the way back, instead of kept.
        liger: Whether Liger's fused layers are used.
        peak_tflops: What the device can do, in 10^12 operations a second; None for the figure of a known GPU.
        sharding: What several ranks hold: all of the model (`ddp`), or a part of it (`fsdp2`, or DeepSpeed's ZeRO-3).
        temperature: The sampler's temperature, at which log-probabilities are taken.
        max_completion_tokens: The length that `dr_grpo` divides by.
        dtype: Number format of computation. Weights that learn are float32 whatever it is: the steps of an optimizer
            are too small for bfloat16, and mostly lost in it.
        threads: CPU threads.
        trust_remote_code: Whether code shipped with the checkpoint may run.
        seed: Of new adapters, and of the order of rollouts where there are several mini-batches.
        critic: The value model of PPO; None without one.
    """

    loss: Loss = "dapo"
    trl: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    clip: float = 0.2
    micro_batch: int = 64
    mini_batches: int = 1
    epochs: int = 1
    max_skipped: int = 3
    correction: Correction = "none"
    correction_max: float = 3.0
    correction_min: float = 0.0
    kl: float = 0.0
    reference_every: int = 0
    lora_rank: int = 0
    freeze_vision: bool = False
    gradient_checkpointing: bool = False
    liger: bool = False
    peak_tflops: float | None = None
    sharding: Sharding = "ddp"
    temperature: float = 1.0
    max_completion_tokens: int = 64
    dtype: str = "float32"
    threads: int = 1
    trust_remote_code: bool = False
    seed: int = 0
    critic: CriticSettings | None = None
