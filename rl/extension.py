"""Users' own parts: found by a built-in name, or by ``package.module:Name``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TypeVar

from rl.config import ConfigError

Part = TypeVar("Part")


def resolve(key: str, name: str, builtin: Mapping[str, Part]) -> Part:
    """The part that a configuration names.

    Args:
        key: The configuration key, for the error message.
        name: A key of ``builtin``, or ``package.module:Name``.
        builtin: The parts that Sieve brings.

    Raises:
        ConfigError: There is no such part.
    """
    if name in builtin:
        return builtin[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(f"{key}: {name!r} is not one of {', '.join(builtin)}, nor package.module:Name")
    try:
        part = getattr(import_module(module), attribute)
    except Exception as error:  # a module of the user's can fail in any way
        reason = " ".join(str(error).split())
        raise ConfigError(f"{key}: {name!r} cannot be imported: {type(error).__name__}: {reason}") from error
    if not callable(part):
        raise ConfigError(f"{key}: {name!r} is a {type(part).__name__}; allowed is a function or a class")
    return part
