"""The policy steps that a run has written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rl.config import ConfigError


def policy_steps(run: Path) -> list[dict[str, float]]:
    """The metrics of each finished policy step of a run folder, from its ``metrics.jsonl``. A run that was killed may
    have torn the last line, which then does not count.

    Raises:
        ConfigError: The file cannot be read, a line is broken, or there is no finished policy step.
    """
    path = run / "metrics.jsonl"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip().split("\n")
    except OSError as error:
        raise ConfigError(f"--run {run}: {error.strerror}: {path}") from None
    rows: list[dict[str, float]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            if number == len(lines):
                break
            raise ConfigError(f"{path}:{number}: not JSON; allowed is an object of numbers") from None
        if not _holds_numbers(row):
            raise ConfigError(f"{path}:{number}: allowed is an object of numbers")
        if "perf/step_seconds" in row:
            rows.append(row)
    if not rows:
        raise ConfigError(f"--run {run}: there is no finished policy step in metrics.jsonl")
    return rows


def _holds_numbers(row: Any) -> bool:
    return isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())
