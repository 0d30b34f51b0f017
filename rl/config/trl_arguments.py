"""Which arguments of `trl.GRPOConfig` a configuration may give, beside those that have keys of their own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from rl.config.learner import LearnerConfig

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@with_config(ConfigDict(extra="forbid", strict=True))
class TRLArguments(TypedDict, total=False):
    """Arguments that shape the loss; TRL's documentation of `GRPOConfig` says what each one does."""

    delta: Positive | None
    epsilon_high: Positive | None
    importance_sampling_level: Literal["token", "sequence"]
    sapo_temperature_neg: Positive
    sapo_temperature_pos: Positive
    vespo_k_pos: Weight
    vespo_k_neg: Weight
    vespo_lambda_pos: Weight
    vespo_lambda_neg: Weight
    top_entropy_quantile: Annotated[float, Field(gt=0, le=1)]
    entropy_coef: Weight
    use_adaptive_entropy: bool
    entropy_coef_min: Weight
    entropy_coef_max: Weight
    entropy_coef_delta: Weight
    entropy_target: Weight
    off_policy_mask_threshold: Positive | None
    use_bias_correction_kl: bool


def check_trl_arguments(arguments: Mapping[str, Any]) -> None:
    """Whether these may be given.

    Raises:
        ValueError: One line that names the first argument that may not, and what is allowed.

    >>> check_trl_arguments({"epsilon_high": 0.28, "importance_sampling_level": "sequence"})
    >>> check_trl_arguments({"entropy_coef": "0.1"})
    Traceback (most recent call last):
    ValueError: entropy_coef: '0.1' is not allowed: input should be a valid number
    """
    try:
        TypeAdapter(TRLArguments).validate_python(dict(arguments))
    except ValidationError as error:
        first = error.errors()[0]
        name, message = first["loc"][0], first["msg"]
        if first["type"] == "extra_forbidden":
            allowed = ", ".join(TRLArguments.__annotations__)
            raise ValueError(f"{name}: no such argument; allowed here: {allowed}") from None
        raise ValueError(f"{name}: {first['input']!r} is not allowed: {message[0].lower()}{message[1:]}") from None


Loss = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "vespo", "luspo"]
Correction = Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
Sharding = Literal["ddp", "fsdp2", "deepspeed"]


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


def check_settings(settings: LearnerConfig) -> None:
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
