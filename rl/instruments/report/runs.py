"""What a report reads of a run: its settings, its measurements, and what it said at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rewards.files.json_text import read_json_file
from rl.config import Config, load_config
from rl.errors import ConfigError
from rl.files.run_files import CONFIG_FILE, SUMMARY_FILE
from rl.monitoring.metrics_file import metric_rows

DIGITS = 6
LARGEST = 1e30
"""Of what a run measures: sums of such numbers are numbers, too."""


@dataclass(frozen=True)
class Summary:
    """What a report reads of what a run says at its end."""

    peak_memory_gib: float


@dataclass(frozen=True)
class Run:
    """One run, finished or not.

    Attributes:
        name: What the report calls it: the end of its path, as much of it as tells the runs apart.
        folder: The run folder.
        config: Its settings.
        rows: Its measurements in order, those that are numbers, each with its policy ``step``; see
            `rl.monitoring.metrics_file.metric_rows`.
        peak_memory: The most memory it took, GiB; None until it is finished.
    """

    name: str
    folder: Path
    config: Config
    rows: list[dict[str, float]]
    peak_memory: float | None

    @property
    def step(self) -> int:
        """Policy steps taken."""
        return int(max(row["step"] for row in self.rows))

    def measured(self, metric: str) -> list[tuple[int, float]]:
        """Step and value of each measurement of a metric."""
        return [(int(row["step"]), row[metric]) for row in self.rows if metric in row]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders.

    Raises:
        ConfigError: One is not a run folder, is named twice, has measured nothing yet, or holds a damaged file.
    """
    places = [folder.resolve() for folder in folders]
    for place, folder in zip(places, folders, strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"run {folder} is named twice")
    return [_read_run(folder, name) for folder, name in zip(folders, _short_names(places), strict=True)]


def _read_run(folder: Path, name: str) -> Run:
    if not (folder / CONFIG_FILE).is_file():
        raise ConfigError(f"run {folder} is not a run folder: it has no {CONFIG_FILE}")
    config = load_config(folder / CONFIG_FILE)
    rows = [
        {name: value for name, value in row.items() if name == "step" or abs(value) <= LARGEST}
        for row in metric_rows(folder)
    ]
    if not rows:
        raise ConfigError(f"run {folder} has measured nothing yet")
    return Run(name, folder, config, rows, _peak_memory(folder / SUMMARY_FILE))


def _peak_memory(path: Path) -> float | None:
    try:
        summary = read_json_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    try:
        return msgspec.convert(summary, Summary).peak_memory_gib
    except ValueError:
        raise ConfigError(f"{path}: not the summary of a run: it has no number peak_memory_gib") from None


def _short_names(places: Sequence[Path]) -> list[str]:
    """The ends of different paths, as few of their parts as it takes to tell them apart."""
    for parts in range(1, max(len(place.parts) for place in places)):
        names = ["/".join(place.parts[-parts:]) for place in places]
        if len(set(names)) == len(names):
            return names
    return [str(place) for place in places]


def rounded(value: float) -> float:
    """To six significant digits, more than anybody sees, for a smaller page.

    >>> rounded(2 / 3)
    0.666667
    """
    return float(f"{value:.{DIGITS}g}")
