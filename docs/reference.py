"""MkDocs hook: the reference of keys, metrics and commands, made from the code that declares them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.main import get_command

from rl.cli import app
from rl.config import Config
from rl.instruments.study.study_file import Study
from rl.monitoring.metric_table import METRICS, metrics_table

Schema = dict[str, Any]
"""JSON schema, as pydantic makes it of a section."""

PLAIN_KINDS = {"boolean": "true or false", "string": "text", "null": "null", "object": "names with their values"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the three pages to those that MkDocs has found."""
    for address, make in PAGES.items():
        files.append(File.generated(config, address, content=make()))
    return files


def keys() -> str:
    """Every key of an experiment and of a study: what it may be, its default, and what it does."""
    schema, study = Config.model_json_schema(), Study.model_json_schema()
    sections, parts = _sections(schema), _sections(study)
    text = [
        "# Keys",
        "Every key of an experiment, with what it may be, its default, and what it does. On the command line any of "
        "them is changed as `key.sub=value`. Those [to know first](docs/configuration.md#keys-to-know).",
        "## The whole run",
        _keys_table("", schema, leave_out=sections),
    ]
    for name, section in sections.items():
        text += [f"## `{name}`", _words(section["description"]), _keys_table(f"{name}.", section)]
    text += ["## A study", "The keys of a [study's file](docs/studies.md).", _keys_table("", study, leave_out=parts)]
    for name, section in parts.items():
        text += [f"### `{name}` of a study", _words(section["description"]), _keys_table(f"{name}.", section)]
    return "\n\n".join(text)


def metrics() -> str:
    """Every metric, a table for each group of them."""
    text = [
        "# Metrics",
        "The same names in TensorBoard and in `metrics.jsonl`; [the dashboard](docs/watching.md#the-dashboard) asks "
        "three questions of them.",
    ]
    for group in dict.fromkeys(name.split("/")[0] for name in METRICS):
        text += [f"## `{group}`", metrics_table(group)]
    return "\n\n".join(text)


def commands() -> str:
    """Every command, with its help, its arguments and its options."""
    root = get_command(app)
    text = ["# Commands", _help(root)]
    for words, command in _leaves("sieve", root):
        with command.make_context(words, [], resilient_parsing=True) as context:
            usage = command.get_usage(context).removeprefix("Usage: ")
        rows = [_row(_names(parameter), parameter.help, _default(parameter)) for parameter in command.params]
        table = "\n".join([_row("argument or option", "what it is", "default"), "|---|---|---|", *rows])
        text += [f"## {words}", f"```text\n{usage}\n```", _help(command), table]
    return "\n\n".join(text)


PAGES: dict[str, Callable[[], str]] = {
    "reference/keys.md": keys,
    "reference/metrics.md": metrics,
    "reference/commands.md": commands,
}


def _sections(schema: Schema) -> dict[str, Schema]:
    """The keys that are sections of their own, with these."""
    fields = schema["properties"].items()
    return {key: schema["$defs"][field["$ref"].split("/")[-1]] for key, field in fields if "$ref" in field}


def _keys_table(prefix: str, section: Schema, leave_out: Collection[str] = ()) -> str:
    head = [_row("key", "what it does", "what it may be", "default"), "|---|---|---|---|"]
    rows = [
        _row(f"`{prefix}{key}`", _words(field["description"]), _kind(field), _value(key, section))
        for key, field in section["properties"].items()
        if key not in leave_out
    ]
    return "\n".join(head + rows)


def _kind(schema: Schema) -> str:
    """What a value may be, in words."""
    if "anyOf" in schema:
        return ", or ".join(_kind(choice) for choice in schema["anyOf"])
    if choices := schema.get("enum"):
        *others, last = (f"`{choice}`" if choice else "an empty text" for choice in choices)
        return f"{', '.join(others)} or {last}" if others else last
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}: {_kind(schema['prefixItems'][0])} each"
        case "array":
            least = f"at least {schema['minItems']}, " if "minItems" in schema else ""
            return f"list, {least}each {_kind(schema['items'])}" if schema["items"] else "list"
        case "integer" | "number" as kind:
            bounds = [f"{sign} {schema[bound]:,}" for bound, sign in BOUNDS.items() if bound in schema]
            return ", ".join(["whole number" if kind == "integer" else "number", *bounds])
        case kind:
            return PLAIN_KINDS[str(kind)]


def _value(key: str, section: Schema) -> str:
    if key in section.get("required", ()):
        return "must be given"
    # The one kind of default that a schema does not tell is that of what is made anew each time: no names yet.
    return f"`{json.dumps(section['properties'][key].get('default', {}), ensure_ascii=False)}`"


def _leaves(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that is no group of others, with the words that call it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from _leaves(f"{words} {name}", inner)
    if not hasattr(command, "commands"):
        yield words, command


def _help(command: Any) -> str:
    return inspect.cleandoc(command.help)


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar}`"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    return f"{names} `{parameter.metavar}`" if parameter.metavar else names


def _default(parameter: Any) -> str:
    return "" if parameter.default in (None, False) else f"`{parameter.default}`"


def _words(text: str) -> str:
    return " ".join(text.split())


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
