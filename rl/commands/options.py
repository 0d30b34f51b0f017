"""What is allowed of an option."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from rl.errors import ConfigError
from rl.learning.known_gpus import KNOWN_GPUS, KnownGpu

Name = TypeVar("Name", bound=str)


MOST_PROMPTS, MOST_SAMPLES = 10_000_000, 10_000
"""Of one command, and of one of its prompts: so many are listed before the first is asked."""


def check(fine: bool, message: str) -> None:
    """See that an option is fine.

    Raises:
        ConfigError: It is not; ``message`` says which, and what is allowed.
    """
    if not fine:
        raise ConfigError(message)


def one_of(option: str, value: str, allowed: Collection[Name]) -> Name:
    """The allowed one that the option names.

    Raises:
        ConfigError: It is none of them.

    >>> one_of("--split", "train", ["train", "heldout"])
    'train'
    """
    for known in allowed:
        if value == known:
            return known
    raise ConfigError(f"{option} {value!r}: allowed is one of {', '.join(allowed)}")


def known_gpu(name: str) -> KnownGpu:
    """The GPU that `--gpu` names.

    Raises:
        ConfigError: Nothing is known of it.
    """
    return KNOWN_GPUS[one_of("--gpu", name, KNOWN_GPUS)]
