"""What a logger is: where the numbers, pictures and texts of a run go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class Writer:
    """One logger, which here writes nothing. To add one, derive a class that has the methods that it has a use for, and
    name it in `rl.monitoring.monitor.open_writers`.

    ``step`` is the policy steps taken so far, 0 before the first.
    """

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, all of them finite."""

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        """How some finite values (N,) are distributed."""

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """A picture (height, width, 3) of bytes."""

    def curve(self, step: int, name: str, found: np.ndarray, confidence: np.ndarray) -> None:
        """Precision against recall: which of N things are what is looked for (N,), and how sure one was of each (N,),
        in [0, 1]."""

    def text(self, step: int, name: str, markdown: str) -> None:
        """A text."""

    def close(self) -> None:
        """Write what is not written yet, and let go of files and connections."""
