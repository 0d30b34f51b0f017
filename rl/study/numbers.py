"""Every number of a study as one long table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from rewards.whole_file import replacing
from rl.study.findings import Findings
from rl.study.results import Finished


def write_numbers(findings: Findings, folder: Path) -> None:
    """``results.csv`` and ``results.parquet``: a row a number, of every cell, metric and step.

    Columns: ``combination`` (the arm's name), its level of each factor, ``seed``, ``metric``, ``step`` (null for final
    numbers), ``value``.
    """
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


def _numbers(cell: Finished) -> Iterable[tuple[int | None, str, float]]:
    for row in cell.result.curve:
        yield from ((int(row["step"]), name, value) for name, value in row.items() if name != "step")
    yield from ((None, name, value) for name, value in cell.result.final.items())
