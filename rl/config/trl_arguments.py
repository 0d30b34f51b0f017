"""Which arguments of `trl.GRPOConfig` a configuration may give, beside those that have keys of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

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


_ADAPTER = TypeAdapter(TRLArguments)
"""Made once: to make it takes ten times as long as to read a whole configuration."""


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
        _ADAPTER.validate_python(dict(arguments))
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
