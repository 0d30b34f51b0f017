"""Results of finished cells on disk: one JSON file each, whole or not there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rewards.files.json_text import read_json_file
from rewards.files.whole_file import replacing
from rl.instruments.replay.measuring import CellResult

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Finished:
    """A finished cell.

    Attributes:
        name: Of the cell.
        recipe: A digest of all that decided its numbers.
        changes: What it changed in the study's experiment.
        seconds: What it took.
        result: What came of it.
    """

    name: str
    recipe: str
    changes: dict[str, Any]
    seconds: Annotated[float, Meta(ge=0, le=1e12)]
    result: CellResult


def write_result(folder: Path, finished: Finished) -> None:
    """Write it into the cell's folder, whole or not at all; numbers that are not finite are left out.

    Raises:
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curve = [_finite(row) for row in finished.result.curve]
    whole = asdict(finished) | {"result": {"curve": curve, "final": _finite(finished.result.final)}}
    text = json.dumps(whole, indent=1) + "\n"
    with replacing(folder / RESULT_FILE) as path:
        path.write_text(text, encoding="utf-8")


def read_result(folder: Path) -> Finished | None:
    """The result in a cell's folder; None where there is none, or something else."""
    try:
        found = msgspec.convert(read_json_file(folder / RESULT_FILE), Finished)
    except (OSError, ValueError):
        return None
    rows = [*found.result.curve, found.result.final]
    finite = all(math.isfinite(value) for row in rows for value in row.values())
    return found if finite and all("step" in row for row in found.result.curve) else None


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
