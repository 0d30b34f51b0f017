"""Which experiments can be replayed, as far as their configuration says; models are not looked at."""

from __future__ import annotations

from rl.config import Config, ConfigError


def check_replay(config: Config, recorded: Config | None = None) -> None:
    """Whether a configuration can be replayed.

    Args:
        config: Of the replay.
        recorded: Of the run that is to be recorded for it, where that is known.

    Raises:
        ConfigError: It cannot.
    """
    if not config.mprm.enabled:
        raise ConfigError("mprm.enabled is false: allowed in a replay is true, as it is the reward model that learns")
    if config.mprm.warm_start:
        raise ConfigError("mprm.warm_start is set: allowed in a replay is none; name a saved mprm.checkpoint instead")
    if not config.replay.tokens or recorded is None:
        return
    wanted, there = config.annotation.continuations, recorded.annotation.continuations
    if wanted > there or recorded.annotation.budget != "fixed":
        raise ConfigError(
            f"replay.tokens is {config.replay.tokens} and annotation.continuations {wanted}: labels are made anew from "
            f"what is recorded, {recorded.annotation.budget} with {there} of a step; allowed is at most so many, of "
            "annotation.budget fixed"
        )
