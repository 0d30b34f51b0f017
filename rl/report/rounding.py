"""Numbers as they stand in a page."""

from __future__ import annotations

DIGITS = 6


def rounded(value: float) -> float:
    """To six significant digits, more than anybody sees, for a smaller page.

    >>> rounded(2 / 3)
    0.666667
    """
    return float(f"{value:.{DIGITS}g}")
