"""The checkpoints that a configuration names, and what of them shows before anything runs."""

from __future__ import annotations

from pathlib import Path

from rl.config import Config
from rl.errors import ConfigError
from rl.files.named_checkpoint import policy_checkpoint
from rl.planning.model_shape import ModelShape


def checkpoints(config: Config) -> dict[str, str]:
    """Of the policy, and of each model of its own, by the section that names it."""
    policy = policy_checkpoint(config)
    found = {"policy": policy}
    if config.mprm.enabled:
        found["mprm"] = config.mprm.checkpoint or policy
    if config.learner.algorithm == "ppo" and config.value.backbone == "own":
        found["value"] = config.value.checkpoint or policy
    if config.outcome_model.is_used:
        found["outcome_model"] = config.outcome_model.checkpoint or policy
    return found


def check_folders(config: Config) -> None:
    """Whether the checkpoints that can only be folders are there.

    Raises:
        ConfigError: One is not.
    """
    named = [(f"{section}.checkpoint", name) for section, name in checkpoints(config).items()]
    for key, name in [*named, *(("mprm.beside", name) for name in config.mprm.beside)]:
        is_path = name.startswith(("/", ".", "~")) or name.count("/") > 1
        if is_path and not Path(name).exists():
            why = " (~ is not expanded)" if name.startswith("~") else ""
            raise ConfigError(f"{key} is {name!r}: there is no such folder{why}; allowed is one, or a hub name")


def check_heads(config: Config, shape: ModelShape) -> None:
    """Whether an engine's GPUs can divide the policy's attention heads among them.

    Raises:
        ConfigError: They cannot.
    """
    heads, keys, gpus = shape.language.heads, shape.language.key_value_heads, config.engine.tensor_parallel
    allowed = [n for n in range(1, heads + 1) if heads % n == 0 and (keys % n == 0 or n % keys == 0)]
    if gpus not in allowed:
        raise ConfigError(
            f"engine.tensor_parallel is {gpus}: allowed is {', '.join(map(str, allowed[:-1]))} or {allowed[-1]}, by "
            f"the {heads} attention heads and {keys} key-value heads of {policy_checkpoint(config)}"
        )
