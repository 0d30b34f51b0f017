"""Which runs a board is to show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rl.errors import ConfigError
from rl.files.run_files import TENSORBOARD


def find_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """The TensorBoard folders of runs, by the names that they are shown under.

    Args:
        folders: Run folders, or folders that hold such at any depth.

    Raises:
        ConfigError: One of them is neither.
    """
    found: dict[str, Path] = {}
    for folder in (given.resolve() for given in folders):
        for path in _served(folder):
            name = wanted = folder.name if path.parent == folder else str(path.parent.relative_to(folder))
            number = 1
            while found.get(name, path) != path:
                number += 1
                name = f"{wanted} ({number})"
            found[name] = path
    return found


def _served(folder: Path) -> list[Path]:
    """A run folder's part for TensorBoard, or those of all run folders in a folder."""
    own = folder / TENSORBOARD
    paths = [own] if own.is_dir() else sorted(folder.rglob(TENSORBOARD))
    if not paths:
        what = "holds no run" if folder.is_dir() else "is no folder"
        raise ConfigError(
            f"{folder} {what}; allowed is a run folder, which has a {TENSORBOARD} folder, or one of those"
        )
    return paths
