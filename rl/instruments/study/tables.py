"""The tables of a study's report, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from rewards.files.whole_file import replacing
from rewards.measuring.bootstrap import Interval
from rl.instruments.study.arms import Arm, short_names, text_of
from rl.instruments.study.comparison import (
    Difference,
    compare,
    holm,
    student_interval,
    summarise,
)
from rl.instruments.study.findings import BySeed, Findings
from rl.instruments.study.results import Finished

MINUS = "\N{MINUS SIGN}"
DIFFERENCE = ("difference", "95 %, t", "95 %, bootstrap", "pairs above", "p", "p, Holm")


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def arms_table(findings: Findings, outcome: str) -> str:
    """One row an arm: the mean of an outcome over seeds, and its paired difference to the baseline."""
    short = short_names(findings.study.factors)
    heading = [*(f"`{name}`" for name in short.values()), "seeds", outcome, *DIFFERENCE]
    decimals = decimals_of(findings, outcome)
    rows, found = [], []
    for arm in findings.arms.values():
        values = findings.outcome(arm.name, outcome)
        if values:
            rows.append([*levels_of(arm), str(len(values)), mean_and_interval(values, decimals)])
            found.append(summarise(findings.differences(arm, outcome)))
    compared = difference_cells(found, decimals)
    if not any(found):
        return table(heading[: -len(DIFFERENCE)], rows)
    return table(heading, [row + cells for row, cells in zip(rows, compared, strict=True)])


def margins_table(findings: Findings, outcome: str) -> str | None:
    """One row a level of the first factor: its difference to the baseline, averaged over all other factors.

    None where there is one factor, or no baseline.
    """
    (first, options), *others = findings.study.factors.items()
    margins = {text_of(level): findings.mean_differences({first: level}, outcome) for level in options}
    by_level = {level: by_seed for level, by_seed in margins.items() if by_seed}
    if not others or not by_level:
        return None
    found = [summarise(by_seed) for by_seed in by_level.values()]
    heading = [f"`{short_names(findings.study.factors)[first]}`", *DIFFERENCE]
    rows = zip(by_level, difference_cells(found, decimals_of(findings, outcome)), strict=True)
    return table(heading, [[level, *cells] for level, cells in rows])


def contrast_table(findings: Findings, outcome: str, key: str) -> str | None:
    """One row a level of the first factor: its difference to the baseline at either level of the contrast, averaged
    over the other factors where both levels are there, and how much larger it is at the first of the two; one row for
    all, where the first factor is the one that is contrasted. None where nothing can be compared."""
    first, options = next(iter(findings.study.factors.items()))
    rows_of = {"all": {}} if key == first else {text_of(level): {first: level} for level in options}
    by_level = {level: findings.contrast(chosen, key, outcome) for level, chosen in rows_of.items()}
    known = {level: sides for level, sides in by_level.items() if all(sides)}
    if not known:
        return None
    short, decimals = short_names(findings.study.factors), decimals_of(findings, outcome)
    levels = [f"`{short[key]}` {text_of(level)}" for level in findings.study.contrast[key]]
    heading = ["" if key == first else f"`{short[first]}`", *levels, *DIFFERENCE]
    means = [[_mean(side, decimals) for side in sides] for sides in known.values()]
    found = [compare(*sides) for sides in known.values()]
    rows = zip(known, means, difference_cells(found, decimals), strict=True)
    return table(heading, [[level, *both, *cells] for level, both, cells in rows])


def difference_cells(found: Sequence[Difference | None], decimals: int) -> list[list[str]]:
    """The cells under `DIFFERENCE`; p values are corrected for being this many."""
    corrected = holm([difference.p if difference else None for difference in found])
    return [_cells(difference, p, decimals) for difference, p in zip(found, corrected, strict=True)]


def levels_of(arm: Arm) -> list[str]:
    """An arm's levels, as text."""
    return [text_of(level) for level in arm.levels.values()]


def mean_and_interval(values: BySeed, decimals: int) -> str:
    """The mean over seeds with its t interval."""
    found = student_interval(np.array(list(values.values())))
    value, low, high = (f"{number:,.{decimals}f}" for number in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})" if len(values) > 1 else value


def signed(value: float, decimals: int) -> str:
    """A difference."""
    return f"{value:+,.{decimals}f}".replace("-", MINUS)


def decimals_of(findings: Findings, outcome: str) -> int:
    """How many decimals four digits of the largest value have."""
    largest = max((abs(value) for arm in findings.arms for value in findings.outcome(arm, outcome).values()), default=0)
    return max(0, 3 - math.floor(math.log10(largest))) if largest else 0


def _cells(found: Difference | None, corrected: float | None, decimals: int) -> list[str]:
    if found is None:
        return [""] * len(DIFFERENCE)
    above = f"{found.above:g} of {found.pairs}"
    intervals = [_interval(interval, decimals) for interval in (found.student, found.bootstrap)]
    return [signed(found.value, decimals), *intervals, above, _p(found.p), _p(corrected)]


def _mean(values: BySeed, decimals: int) -> str:
    return signed(float(np.mean(list(values.values()))), decimals)


def _interval(interval: Interval | None, decimals: int) -> str:
    return f"{signed(interval.low, decimals)} to {signed(interval.high, decimals)}" if interval else ""


def _p(p: float | None) -> str:
    return "" if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001"


def write_numbers(findings: Findings, folder: Path) -> None:
    """Every number, for others to compute with.

    ``results.csv`` and ``results.parquet``: a row a number, of every cell, metric and step. Columns: ``combination``
    (the arm's name), its level of each factor, ``seed``, ``metric``, ``step`` (null for final numbers), ``value``.

    ``outcomes.csv``, small enough to keep: a row a cell. Columns: ``combination``, ``seed``, and the study's outcomes
    (null where one was not measured).
    """
    with replacing(folder / "outcomes.csv") as path:
        csv.write_csv(_outcomes(findings), path)
    columns: dict[str, list[Any]] = {name: [] for name in ("combination", *findings.study.factors, "seed", "metric")}
    columns |= {"step": [], "value": []}
    for name, cells in findings.cells.items():
        levels = {key: str(level) for key, level in findings.arms[name].levels.items()}
        for seed, cell in sorted(cells.items()):
            for step, metric, value in _numbers(cell):
                row = {"combination": name} | levels | {"seed": seed, "metric": metric, "step": step, "value": value}
                for column, entry in row.items():
                    columns[column].append(entry)
    types = {"seed": pa.int64(), "step": pa.int64(), "value": pa.float64()}
    table = pa.table({name: pa.array(values, types.get(name, pa.string())) for name, values in columns.items()})
    with replacing(folder / "results.csv") as path:
        csv.write_csv(table, path)
    with replacing(folder / "results.parquet") as path:
        parquet.write_table(table, path)


def _outcomes(findings: Findings) -> pa.Table:
    cells = [(name, seed, cell) for name, by_seed in findings.cells.items() for seed, cell in sorted(by_seed.items())]
    columns = {
        "combination": pa.array([name for name, _, _ in cells], pa.string()),
        "seed": pa.array([seed for _, seed, _ in cells], pa.int64()),
    }
    for outcome in findings.study.outcomes:
        columns[outcome] = pa.array([cell.result.final.get(outcome) for _, _, cell in cells], pa.float64())
    return pa.table(columns)


def _numbers(cell: Finished) -> Iterable[tuple[int | None, str, float]]:
    for row in cell.result.curve:
        yield from ((int(row["step"]), name, value) for name, value in row.items() if name != "step")
    yield from ((None, name, value) for name, value in cell.result.final.items())
