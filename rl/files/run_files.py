"""What the files and folders in a run folder are called."""

from __future__ import annotations

import re
from pathlib import Path

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.jsonl"
SUMMARY_FILE = "summary.json"
TENSORBOARD = "tensorboard"
EVENTS = "events.out.tfevents.*"
"""TensorBoard's own files there."""

CHECKPOINTS = "checkpoints"
CHECKPOINT = re.compile(r"step-(?:0|[1-9][0-9]{0,11})")
"""As checkpoints are named, and nothing else that stands there: no two of one step, and no step that nobody takes."""


def checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints of a run folder, oldest first."""
    found = [
        path for path in (folder / CHECKPOINTS).glob("step-*") if CHECKPOINT.fullmatch(path.name) and path.is_dir()
    ]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The policy steps that a checkpoint's run had taken."""
    return int(checkpoint.name.removeprefix("step-"))
