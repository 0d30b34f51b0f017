"""What a run has written down in its ``metrics.jsonl``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rl.errors import ConfigError
from rl.files.run_files import METRICS_FILE


def metric_rows(run: Path) -> list[dict[str, float]]:
    """The rows of a run folder's ``metrics.jsonl``, in order: one for each policy step and each evaluation, with what
    was measured. A run that was killed may have torn the last line, which then does not count.

    Raises:
        ConfigError: The file cannot be read, or a line is broken.
    """
    path = run / METRICS_FILE
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip().split("\n")
    except OSError as error:
        raise ConfigError(f"run {run}: {error.strerror}: {path}") from None
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
        rows.append(row)
    return rows


def policy_steps(run: Path) -> list[dict[str, float]]:
    """The rows of the finished policy steps alone.

    Raises:
        ConfigError: As of `metric_rows`, or there is none.
    """
    rows = [row for row in metric_rows(run) if "perf/step_seconds" in row]
    if not rows:
        raise ConfigError(f"run {run}: there is no finished policy step in {METRICS_FILE}")
    return rows


def _holds_numbers(row: Any) -> bool:
    return isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())
