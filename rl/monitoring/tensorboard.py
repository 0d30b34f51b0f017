"""The first of the loggers: TensorBoard."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from rl.config import Config
from rl.files.run_files import EVENTS
from rl.monitoring.dashboard import dashboard_layout, write_hyperparameters
from rl.monitoring.writer import Writer


class TensorBoard(Writer):
    """Writes what TensorBoard shows.

    Args:
        folder: TensorBoard's.
        config: The experiment: its settings, and the dashboard that fits it.
        knows_steps: Whether its task can tell which held-out steps are right.
        known: The last policy step that is to stay of what is there already; -1 for none.
    """

    def __init__(self, folder: Path, config: Config, knows_steps: bool, known: int) -> None:
        # Before the run's own file is there: TensorBoard goes on reading the newest one alone.
        write_hyperparameters(folder, config)
        earlier = sorted(folder.glob(EVENTS))
        self._summaries = SummaryWriter(str(folder), purge_step=known + 1)
        _keep_order(earlier, folder)
        self._summaries.add_custom_scalars(dashboard_layout(config, knows_steps))
        threading.excepthook = _unless_kept

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._summaries.add_scalar(name, value, step)

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        self._summaries.add_histogram(name, values, step)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        self._summaries.add_image(name, picture, step, dataformats="HWC")

    def curve(self, step: int, name: str, found: np.ndarray, confidence: np.ndarray) -> None:
        self._summaries.add_pr_curve(name, found, confidence, step)

    def text(self, step: int, name: str, markdown: str) -> None:
        self._summaries.add_text(name, markdown, step)

    def close(self) -> None:
        self._summaries.close()


def _keep_order(earlier: Sequence[Path], folder: Path) -> None:
    """TensorBoard reads files in the order of the seconds in their names: where the clock was set back since, or is
    another machine's, the earlier ones get the first seconds that there are."""
    if sorted(folder.glob(EVENTS))[: len(earlier)] != earlier:
        for place, file in enumerate(earlier):
            file.rename(folder / re.sub(r"\d+", f"{place:010}", file.name, count=1))


def _unless_kept(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread keeps what it failed with for the next one who writes, who raises it: it is told once."""
    if getattr(failure.thread, "exception", None) is not failure.exc_value:
        threading.__excepthook__(failure)
