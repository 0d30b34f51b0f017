"""Which experiments can be replayed, as far as their configuration says; models are not looked at."""

from __future__ import annotations

from collections.abc import Iterable

from rl.config import Config
from rl.errors import ConfigError

READ = ("mprm", "policy", "replay", "selection", "task")
"""Sections of an experiment that a replay reads; with `replay.tokens`, which labels anew, `annotation` as well."""


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


def check_varied(keys: Iterable[str], config: Config) -> None:
    """Whether a replay reads the keys in which it is to differ from others: if not, they would be equal without a word.

    Args:
        keys: Dotted keys that differ.
        config: Of the replay.

    Raises:
        ConfigError: It does not read one of them.
    """
    read = sorted((*READ, "annotation")) if config.replay.tokens else READ
    for key in keys:
        if (section := key.partition(".")[0]) not in read:
            labels = ", which has recorded labels unless replay.tokens is set" if section == "annotation" else ""
            raise ConfigError(
                f"{key} is varied: it changes nothing in a replay{labels}; allowed are keys of {', '.join(read)}"
            )
