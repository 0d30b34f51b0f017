"""A run's ``metrics.jsonl``: a row of numbers for each policy step and each evaluation, written and read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rewards.files.json_text import read_json
from rewards.files.whole_file import content_of, opened_here, replacing
from rl.errors import ConfigError
from rl.files.run_files import METRICS_FILE
from rl.monitoring.writer import Writer


class MetricsFile(Writer):
    """Writes the numbers, a line each time.

    Args:
        run: The run folder.
        known: The last policy step that is to stay of what is there already; -1 for none.
        keep_evaluation: Whether the evaluation after that step is to stay, too; see `forget_after`.

    Raises:
        ConfigError: A line of what is there is broken.
    """

    def __init__(self, run: Path, known: int, keep_evaluation: bool) -> None:
        self._path = run / METRICS_FILE
        forget_after(self._path, known, keep_evaluation)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        with open(self._path, "a", encoding="utf-8", opener=opened_here) as file:
            file.write(json.dumps({"step": step} | dict(values)) + "\n")


def metric_rows(run: Path) -> list[dict[str, float]]:
    """The rows of a run folder's ``metrics.jsonl``, in order: one for each policy step and each evaluation, with what
    was measured. A run that was killed may have torn the last line, which then does not count.

    Raises:
        ConfigError: The file cannot be read, or a line is broken.
    """
    path = run / METRICS_FILE
    try:
        lines = content_of(path).decode(errors="replace").rstrip().split("\n")
    except OSError as error:
        raise ConfigError(f"run {run}: {error.strerror}: {path}") from None
    rows: list[dict[str, float]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = read_json(line)
        except ValueError:
            if number == len(lines):
                break
            raise ConfigError(f"{path}:{number}: not JSON; allowed is an object of numbers with a step") from None
        if not _holds_numbers(row):
            raise ConfigError(f"{path}:{number}: allowed is an object of numbers with a step")
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
    """Whether it is an object of numbers that floating point can hold, with a step that is finite."""
    try:
        numbers = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
    except (AttributeError, OverflowError):
        return False
    return len(numbers) == len(row) and math.isfinite(numbers.get("step", math.nan))


def forget_after(path: Path, step: int, keep_evaluation: bool = True) -> None:
    """Drop the lines of steps after ``step``: an interrupted run wrote them and its resumption writes them again.

    The evaluation of ``step`` itself may have to go with them: the last one comes after the last checkpoint, all others
    come before theirs.

    Raises:
        ConfigError: A line is broken.
    """
    if not path.exists():
        return
    # A run that was killed may have torn its last line.
    whole = [line for line in content_of(path).splitlines(keepends=True) if line.endswith(b"\n")]
    steps = [_step_of(path, number, line) for number, line in enumerate(whole, start=1)]
    kept = [
        line
        for line, of in zip(whole, steps, strict=True)
        if of < step or (of == step and (keep_evaluation or b'"perf/step_seconds"' in line))
    ]
    with replacing(path) as partial:
        partial.write_bytes(b"".join(kept))


def _step_of(path: Path, number: int, line: bytes) -> float:
    try:
        return float(read_json(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ConfigError(f"{path}:{number}: allowed is an object of numbers with a step") from None
