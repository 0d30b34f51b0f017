"""Users' own parts: found by a built-in name, or by ``package.module:Name``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TypeVar

from rewards.models.named_rules import RULES
from rewards.models.step_rule import StepRule, rule_of_expression, rule_of_function
from rewards.users_code import in_one_line
from rl.errors import ConfigError

Part = TypeVar("Part")
Made = TypeVar("Made")


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
    with in_one_line(f"{key}: {name!r}", "cannot be imported", ConfigError):
        part = getattr(import_module(module), attribute)
    if not callable(part):
        raise ConfigError(f"{key}: {name!r} is a {type(part).__name__}; allowed is a function or a class")
    return part


def names_a_function(name: str) -> bool:
    r"""Whether a text can be the name of a user's part, and not, say, a regular expression.

    >>> names_a_function("my_package.steps:cut"), names_a_function(r"Step \d+:"), names_a_function("Next:")
    (True, False, False)
    """
    module, colon, attribute = name.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def make_step_rule(name: str) -> StepRule:
    """What `task.steps` stands for.

    Raises:
        ConfigError: There is no such part.
    """
    if name in RULES:
        return RULES[name]
    if not names_a_function(name):
        return rule_of_expression(name)
    return rule_of_function(name, resolve_made("task.steps", name, {}))


def resolve_made(key: str, name: str, builtin: Mapping[str, Part]) -> Part:
    """As `resolve`, but a class of the user's stands for what it makes without arguments.

    Raises:
        ConfigError: There is no such part, or the class makes none.
    """
    part = resolve(key, name, builtin)
    if not isinstance(part, type):
        return part
    made = make_part(key, name, part)
    if not callable(made):
        raise ConfigError(f"{key}: {name!r} makes a {type(made).__name__}; allowed is what can be called")
    return made


def make_part(key: str, name: str, make: Callable[[], Made]) -> Made:
    """What a function or a class makes that the configuration names.

    Raises:
        ConfigError: It cannot.
    """
    with in_one_line(f"{key}: {name!r}", "cannot be made", ConfigError, let_through=(ConfigError,)):
        return make()
