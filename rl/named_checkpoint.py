"""Checkpoints that the user names: found, told from one another, and known by what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Literal

from rl.config import ConfigError

Kind = Literal["policy", "mprm", "outcome"]

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def named_checkpoint(option: str, named: str, kind: Kind) -> str:
    """The folder or hub name of a checkpoint that is to be opened as ``kind``; the shipped policy by its name.

    Raises:
        ConfigError: It is neither a folder of a checkpoint nor can it be a hub name, or it is a saved reward model of
            another kind.
    """
    folder = Path(named)
    if named == "grid_policy":
        # Imported here, since it takes seconds: what is mistyped is said at once.
        from rl.experiment import SHIPPED_POLICY

        return str(SHIPPED_POLICY)
    if not folder.is_dir():
        # A path that is not there would be looked for on the hub, for minutes.
        if folder.parent.is_dir() or not HUB_NAME.fullmatch(named):
            raise ConfigError(f"{option} {named} is no folder; allowed is that of a checkpoint, or a hub name")
        return named
    if not any(folder.glob("*.safetensors")) or not any(folder.glob("*.json")):
        raise ConfigError(f"{option} {named}: the folder holds no checkpoint (*.safetensors)")
    refuse_other_kind(option, folder, kind)
    return named


def checkpoint_digest(checkpoint: str) -> str:
    """A digest of all files of a checkpoint's folder, which may have been trained on in place; else its name."""
    files = sorted(file for file in Path(checkpoint).rglob("*") if file.is_file())
    return files_digest(files) if files else checkpoint


def files_digest(files: Iterable[Path]) -> str:
    """A digest of files' names and contents, in this order."""
    whole = blake2b(digest_size=16)
    for file in files:
        with file.open("rb") as content:
            whole.update(file.name.encode() + file_digest(content, "blake2b").digest())
    return whole.hexdigest()


def refuse_other_kind(option: str, folder: Path, kind: Kind) -> None:
    """Whether a folder may be opened as ``kind``.

    Raises:
        ConfigError: It is a saved reward model of another kind.
    """
    # Imported here, as above.
    from rewards.outcome.outcome_model import STATE_FILE
    from rewards.process_model.mprm import MPRM_FILE

    if kind == "mprm" and (folder / STATE_FILE).is_file():
        raise ConfigError(f"{option} {folder} is a saved outcome model; allowed is an MPRM, or a plain checkpoint")
    if kind == "outcome" and (folder / MPRM_FILE).is_file():
        raise ConfigError(f"{option} {folder} is a saved MPRM; allowed is an outcome model, or a plain checkpoint")
