"""What the files and folders in a run folder are called."""

from __future__ import annotations

import re
from pathlib import Path

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.jsonl"
SUMMARY_FILE = "summary.json"
TENSORBOARD = "tensorboard"

CHECKPOINTS = "checkpoints"


def checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints of a run folder, oldest first."""
    found = [path for path in (folder / CHECKPOINTS).glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The policy steps that a checkpoint's run had taken."""
    return int(checkpoint.name.removeprefix("step-"))
