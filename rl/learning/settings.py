"""How the policy learns: plain values, without any heavy import."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from rl.learning.trl_arguments import check_trl_arguments

if TYPE_CHECKING:
    from rl.config_learner import LearnerConfig
    from rl.learning.critic import CriticSettings

Loss = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "vespo", "luspo"]
Correction = Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
Sharding = Literal["ddp", "fsdp2", "deepspeed"]


@dataclass(frozen=True)
class LearnerSettings:
    """What `rl.learning.learner.PolicyLearner` does with its experiences.

    Attributes:
        loss: TRL's loss: how the objective is clipped, and averaged over tokens and rollouts.
        trl: Further arguments of `trl.GRPOConfig`; see `rl.learning.trl_arguments`.
        learning_rate, weight_decay, max_grad_norm: Of AdamW, at a constant rate.
        clip: Clipping range of the probability ratio, epsilon.
        micro_batch: Most rollouts in one forward and backward pass of one rank; no result depends on it.
        mini_batches: Optimizer steps of one pass over a policy step's rollouts.
        epochs: Passes over them.
        max_skipped: Policy steps in a row that may be left out because loss or gradient is not finite.
        correction, correction_max, correction_min: See `rl.learning.importance`.
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


def check_packages(liger: bool, sharding: Sharding) -> None:
    """Whether what the settings want is installed.

    Raises:
        ValueError: One line that names the configuration's key, its value, and what is allowed.
    """
    if liger and find_spec("liger_kernel") is None:
        raise ValueError("learner.liger is true: the package liger-kernel is not installed; allowed is false")
    if sharding == "deepspeed" and find_spec("deepspeed") is None:
        raise ValueError(
            "learner.sharding is 'deepspeed': the package deepspeed is not installed; allowed is ddp or fsdp2"
        )


def check_settings(settings: LearnerSettings | LearnerConfig) -> None:
    """Whether settings fit together, and what they want is installed; cheap, to be asked before anything is made.

    Raises:
        ValueError: One line that names the configuration's key, its value, and what is allowed.
    """
    try:
        check_trl_arguments(settings.trl)
    except ValueError as error:
        raise ValueError(f"learner.trl.{error}") from None
    check_packages(settings.liger, settings.sharding)
    if settings.sharding == "deepspeed" and (settings.kl or settings.lora_rank):
        wanted = "kl" if settings.kl else "lora_rank"
        raise ValueError(f"learner.sharding is 'deepspeed': allowed with learner.{wanted} above 0 is ddp or fsdp2")
    if settings.loss == "vespo" and settings.correction.startswith("sequence"):
        raise ValueError(
            f"learner.correction is {settings.correction!r}: allowed with learner.loss vespo, which weighs whole "
            "rollouts itself, is none, token_truncate or token_mask"
        )
    if settings.correction_min >= settings.correction_max:
        raise ValueError(
            f"learner.correction_min is {settings.correction_min:g}: allowed is less than learner.correction_max, "
            f"{settings.correction_max:g}"
        )
