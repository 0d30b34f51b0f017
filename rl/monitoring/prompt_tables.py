"""Which prompts are asked most, and which are likeliest to teach: tables for TensorBoard's texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from selection.prompts import Standing

COLUMNS = "prompt", "source", "asked", "chance of right", "verdicts", "chance of a mixed group"


def prompt_tables(standings: Mapping[str, Sequence[Standing]]) -> str:
    """A Markdown table under each title.

    >>> print(prompt_tables({"asked most often": [Standing("cats_7", "count|2", 3, 0.5, 21.5, 0.93)]}))
    **asked most often**
    <BLANKLINE>
    | prompt | source | asked | chance of right | verdicts | chance of a mixed group |
    |---|---|---|---|---|---|
    | cats\\_7 | count\\|2 | 3 | 0.50 | 21.5 | 0.93 |
    """
    return "\n\n".join(f"**{title}**\n\n{_table(rows)}" for title, rows in standings.items())


def _table(rows: Sequence[Standing]) -> str:
    cells = [COLUMNS, *map(_cells, rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|---" * len(COLUMNS) + "|", *lines[1:]])


def _cells(row: Standing) -> tuple[str, ...]:
    numbers = f"{row.right:.2f}", f"{row.verdicts:.1f}", f"{row.mixed:.2f}"
    return _plain(row.name), _plain(row.source), str(row.times), *numbers


def _plain(text: str) -> str:
    """In one line, and without what Markdown would make something else of."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&-])", r"\\\1", " ".join(text.split()))
