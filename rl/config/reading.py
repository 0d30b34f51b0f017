"""YAML and ``key.sub=value`` overrides, as sections; complaints are one line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar

import yaml
import yaml.composer
from pydantic import BaseModel, ValidationError

from rewards.files.whole_file import content_of, replacing
from rewards.section import Section
from rl.config.experiment import Config
from rl.errors import ConfigError

Kind = TypeVar("Kind", bound=Section)


SECRET = {"judge.api_key_env", "served.api_key_env"}
"""Keys whose wrong value may be a secret by mistake, and is not repeated."""
MOST_VALUES, MOST_CHARACTERS, MOST_BITS = 100_000, 200_000, 14_000
"""Of a text in YAML, and of a whole number in it: Python writes no longer ones."""
LONGEST_KEY = 300
"""Of a key that is told; no key of ours is nearly as long."""
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlong = 60
_SHORT.maxlevel = 2

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)|(?<=[?&])[^\s'\"]+")


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read an experiment's YAML file (None for the defaults) and apply ``key.sub=value`` overrides (values are YAML).

    Raises:
        ConfigError: One line that names file, key, value and what is allowed.
    """
    return load_section(Config, path, overrides)


def load_section(kind: type[Kind], path: str | Path | None, overrides: Sequence[str] = ()) -> Kind:
    """Read a YAML file that holds a section of this kind (None for its defaults), and apply overrides.

    Raises:
        ConfigError: One line that names file, key, value and what is allowed.
    """
    values = {} if path is None else read_values(path)
    for override in overrides:
        _override(values, override)
    return _validated(kind, path or "configuration", values)


def changed_config(path: Path, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """The experiment of a file, of which `read_values` has given the values, with changes by dotted key.

    Raises:
        ConfigError: See `load_section`.
    """
    changed = dict(values)
    for key, value in changes.items():
        _put(changed, key, value, f"{key}={value}")
    return _validated(Config, path, changed)


def _validated(kind: type[Kind], where: str | Path, values: Mapping[str, Any]) -> Kind:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(error, kind, values)}") from None


def read_values(path: str | Path) -> dict[str, Any]:
    """What stands in a YAML file that holds a mapping; nothing in an empty one.

    Raises:
        ConfigError: It cannot be read, or holds something else.
    """
    try:
        text = content_of(path).decode()
    except (OSError, ValueError) as error:  # a ValueError is a text in another encoding, or no path
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    try:
        values = read_yaml(text)
    except YAMLTextError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}; allowed is a mapping of keys to values")
    return values


def save_config(config: Config, path: Path) -> None:
    """Write every field, defaults too, as YAML that `load_config` reads."""
    text = yaml.dump(config.model_dump(mode="json"), Dumper=_PlainDumper, sort_keys=False)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{shown(override)}: an override is key.sub=value")
    try:
        value = read_yaml(text)
    except YAMLTextError as error:
        raise ConfigError(f"{shown(override)}: the value is not YAML; quote what has brackets: {error}") from None
    _put(values, key, value, override)


def _put(values: dict[str, Any], key: str, value: Any, told: str) -> None:
    """Set what is at a dotted key; ``told`` is how it was said."""
    *sections, last = key.split(".")
    for section in sections:
        there = values.get(section, {})
        if not isinstance(there, dict):
            raise ConfigError(f"{shown(told)}: {section} is a value, not a section")
        # A copy, since two sections of a file may be one, by an alias.
        values[section] = values = dict(there)
    values[last] = value


def _first_problem(error: ValidationError, kind: type[BaseModel], values: Mapping[str, Any]) -> str:
    """The first of pydantic's complaints as one line; the count of the others follows."""
    first, *others = error.errors()
    key = ".".join(map(str, _written(first["loc"], values)))
    key = key if len(key) <= LONGEST_KEY else f"{key[:LONGEST_KEY]}..."
    more = f" (and {len(others)} more)" if others else ""
    if first["type"] == "extra_forbidden":
        allowed = _keys(kind, first["loc"][:-1])
        meant = get_close_matches(str(first["loc"][-1]).strip().lower().replace("-", "_"), allowed, n=1, cutoff=0.75)
        asked = f"did you mean {meant[0]}? " if meant else ""
        return f"{key}: no such key; {asked}allowed here: {', '.join(allowed)}{more}"
    if first["type"] == "missing":
        return f"{'.'.join(map(str, first['loc']))}: is missing{more}"
    message = str(first.get("ctx", {}).get("error", first["msg"]))
    if first["type"] == "model_type":
        message = f"input should be a section with keys among {', '.join(_keys(kind, first['loc']))}"
    message = message[0].lower() + message[1:].replace("valid tuple", "list").replace("valid dictionary", "mapping")
    if first["type"] == "string_type" and isinstance(first["input"], bool | int | float | date):
        message += ", in quotes where it looks like something else"
    value = "***" if key in SECRET else shown(first["input"])
    return f"{key}: {value} is not allowed: {message}{more}" if key else f"{message}{more}"


def _written(place: Sequence[str | int], value: Any) -> Iterator[str | int]:
    """A place without what pydantic adds to it where one of several types is allowed: which one it tried."""
    for part in place:
        inner = {str(key): each for key, each in value.items()} if isinstance(value, dict) else {}
        if isinstance(value, list | tuple):
            inner = {str(index): each for index, each in enumerate(value)}
        if str(part) in inner:
            yield part
            value = inner[str(part)]


def _keys(kind: Any, sections: Sequence[str | int]) -> list[str]:
    for section in sections:
        kind = kind.model_fields[str(section)].annotation
    return list(kind.model_fields)


def shown(value: Any) -> str:
    """As Python writes it, shortened where it is long or deep; what an address has in ``USER:PASSWORD@`` or after its
    ``?`` is left out.

    >>> shown(["a.png", 3]), shown("x" * 300)[95:110], shown("https://me:secret@judge/v1?key=secret")
    ("['a.png', 3]", 'xxx...xxxxxxxxx', "'https://***@judge/v1?***'")
    """
    return _CREDENTIALS.sub("***", _SHORT.repr(value))


class YAMLTextError(ValueError):
    """It is no such text; one line that says what is wrong and, where that is known, in which line."""


def read_yaml(text: str) -> Any:
    """The value that a text stands for.

    Raises:
        YAMLTextError: It is not YAML, a key stands twice in a mapping, or a value cannot be.
    """
    if len(text) > MOST_CHARACTERS:
        raise YAMLTextError(f"it has {len(text):,} characters; allowed are at most {MOST_CHARACTERS:,}")
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark is not None else ""
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise YAMLTextError(f"{line}{' '.join(problem.split())}") from None
    except RecursionError:
        raise YAMLTextError("its brackets are too deep") from None
    except (yaml.YAMLError, ValueError) as error:  # a ValueError is a date or a number that cannot be
        raise YAMLTextError(" ".join(str(error).split())) from None
    except (AttributeError, LookupError):  # of PyYAML's own functions for tags such as `!!bool`
        raise YAMLTextError("a value is not of the kind that its tag says") from None


class _PlainLoader(yaml.SafeLoader):
    """What stands there: ``1e-4`` is a number, ``010`` is ten, ``12:30`` is text, and so are ``Yes``, ``no``, ``on``
    and ``off``: a key that is true or false takes them as such, and one that is a word has it as it is written.

    PyYAML's own, of YAML 1.1, has it otherwise, and would let the last of several equal keys win without a word.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _unfolded(node, {}) > MOST_VALUES:
            problem = f"more than {MOST_VALUES:,} values, those of aliases among them"
            raise yaml.composer.ComposerError(problem=problem, problem_mark=node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Mark] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                earlier = first.setdefault((key.tag, key.value), key.start_mark)
                if earlier is not key.start_mark:
                    problem = f"key {key.value!r} is there already, in line {earlier.line + 1}; allowed is once"
                    raise yaml.composer.ComposerError(problem=problem, problem_mark=key.start_mark)
        return node


def _unfolded(node: yaml.Node, known: dict[int, int | None]) -> int:
    """How many values a node stands for, those of its aliases counted each time: short texts make billions of them."""
    size = known.get(id(node), 0)
    if size is None:
        problem = "an alias stands inside of what it names"
        raise yaml.composer.ComposerError(problem=problem, problem_mark=node.start_mark)
    if size == 0:
        known[id(node)] = None
        pairs = isinstance(node, yaml.MappingNode)
        parts = itertools.chain.from_iterable(node.value) if pairs else node.value
        size = 1 + (0 if isinstance(node, yaml.ScalarNode) else sum(_unfolded(part, known) for part in parts))
        known[id(node)] = size
    return size


class _PlainDumper(yaml.SafeDumper):
    """Quotes text that `_PlainLoader`, or another reader of YAML, would take for something else."""


_SCALARS = {
    "bool": (r"(?i:true|false)", "tTfF"),
    "int": (r"[-+]?[0-9][0-9_]*|[-+]?0x[0-9a-fA-F_]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
"""Of the kinds that are read otherwise: the expression of a value, and what it begins with."""
_TAG = "tag:yaml.org,2002:"
_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in found if tag.removeprefix(_TAG) not in _SCALARS]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, (_expression, _firsts) in _SCALARS.items():
    for _class in (_PlainLoader, _PlainDumper):
        _class.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_expression})$"), list(_firsts))


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    digits = loader.construct_scalar(node).replace("_", "")
    number = int(digits, 16 if "0x" in digits else 10)
    if number.bit_length() > MOST_BITS:
        raise ValueError("a whole number has thousands of digits")
    return number


_PlainLoader.add_constructor(_TAG + "int", _integer)
