"""What one cell of a study gives: the record that a replay and a training run both end in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CellResult:
    """The numbers of one finished cell.

    Attributes:
        curve: One row a measurement, in order, each with its policy ``step`` and whatever was measured then; a number
            that was not measured is left out of its row.
        final: The numbers that the cell has once, by name, for example ``auc_within_kind``.
    """

    curve: list[dict[str, float]]
    final: dict[str, float]
