"""The list of a checkpoint's files, written last and looked at first: what was damaged since is told before it loads.

``files.json`` has each file's size, and a digest of its beginning and its end: to read the weights of a large model in
full would take minutes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from rewards.files.json_text import read_json_file
from rewards.files.whole_file import opened_here
from rl.errors import ConfigError

LIST_FILE = "files.json"
LOOKED_AT = 2**20
"""Bytes at either end of a file."""


def list_files(checkpoint: Path) -> None:
    """Write the list of all files below a folder."""
    found = {str(file.relative_to(checkpoint)): _print(file) for file in _files(checkpoint)}
    (checkpoint / LIST_FILE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def check_files(checkpoint: Path) -> None:
    """Whether all files of the list are as they were written; others do not matter.

    Raises:
        ConfigError: The list or a file is missing, or was changed since; names each of them.
    """
    path = checkpoint / LIST_FILE
    try:
        listed = read_json_file(path)
        if not listed or any(Path(name).is_absolute() or ".." in Path(name).parts for name in listed):
            raise ValueError
        wrong = [f"{name} ({problem})" for name, was in listed.items() if (problem := _problem(checkpoint / name, was))]
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: {checkpoint} is no checkpoint of a run, or not all of one") from None
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        raise ConfigError(f"{path} is damaged: allowed is the list that was written with the checkpoint") from None
    if wrong:
        raise ConfigError(f"{checkpoint} is damaged: {', '.join(wrong)}; without that folder an earlier one serves")


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file() and file != folder / LIST_FILE)


def _problem(file: Path, was: dict[str, Any]) -> str:
    """What is wrong with a file; empty if nothing is."""
    try:
        found = _print(file)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if found["bytes"] != was["bytes"]:
        return f"{found['bytes']:,} bytes instead of {was['bytes']:,}"
    return "" if found == was else "changed since it was written"


def _print(file: Path) -> dict[str, Any]:
    digest = blake2b(digest_size=16)
    with open(file, "rb", opener=opened_here) as content:
        size = os.fstat(content.fileno()).st_size
        digest.update(content.read(LOOKED_AT))
        content.seek(max(content.tell(), size - LOOKED_AT))
        digest.update(content.read())
    return {"bytes": size, "digest": digest.hexdigest()}
