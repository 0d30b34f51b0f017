"""The folder of a run: chosen, taken, and opened again."""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from rl.checkpoints.manifest import check_files
from rl.checkpoints.resumption import check_keys, check_resumption
from rl.config import Config, load_config, save_config
from rl.errors import ConfigError
from rl.files.folders import only_one
from rl.files.run_files import CONFIG_FILE, checkpoints, step_of


def choose_run_folder(config: Config) -> Path:
    """The folder of a new run; it is made only once the run's parts are known to exist.

    Raises:
        ConfigError: It holds a run already, or cannot be made.
    """
    named = f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = Path(os.path.expanduser(config.output_dir)) if config.output_dir else Path("runs") / named
    try:
        _refuse_run(folder)
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        raise ConfigError(f"output_dir: {str(folder)[:200]} cannot be made: {error.strerror}") from None
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise ConfigError(f"output_dir: {folder} cannot be made: {there} is no folder that can be written to")
    return folder


def _take_folder(folder: Path, others_kept_out: ExitStack) -> None:
    """Make the folder of a run that begins, and keep other processes out of it until the stack is left.

    Raises:
        ConfigError: Another one has it, or was faster.
    """
    others_kept_out.close()  # it may have begun before, and lost a worker ahead of its first checkpoint
    others_kept_out.enter_context(only_one(folder))
    _refuse_run(folder)


def _refuse_run(folder: Path) -> None:
    if checkpoints(folder):
        raise ConfigError(f"output_dir: {folder} holds a run already; resume it with --resume, or name another folder")


def _keep_config(config: Config, folder: Path) -> None:
    """Make the folder, if it is not there yet, with the configuration as it now is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_config(config, folder / CONFIG_FILE)
    except OSError as error:
        raise ConfigError(f"output_dir: {folder} cannot be made: {error.strerror}") from None


def open_run_folder(folder: Path, overrides: list[str]) -> Config:
    """The configuration of a run to resume.

    Raises:
        ConfigError: It is no run folder, has no finished checkpoint, that one is damaged, or what it
            holds was made otherwise.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise ConfigError(f"--resume: {folder} is not a run folder: it has no {CONFIG_FILE}")
    if not checkpoints(folder):
        raise ConfigError(f"--resume: {folder} has no finished checkpoint to go on from")
    config, newest = load_config(folder / CONFIG_FILE, overrides), checkpoints(folder)[-1]
    if config.steps < (taken := step_of(newest)):
        raise ConfigError(f"steps is {config.steps}: allowed with --resume is {taken}, as far as the run is, or more")
    check_files(newest)
    kept = newest / CONFIG_FILE
    if not kept.exists():  # of an earlier version
        kept = folder / CONFIG_FILE
    check_keys(folder / CONFIG_FILE, kept)
    check_resumption(load_config(kept), config)
    return config
