"""Cells that are odd, and yet read as they stand, or refused in one line that names the row."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewards.records import Prompt
from rl.tasks.choices import read_list
from rl.tasks.files import FileTask


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def a_task(table: Path, columns: dict[str, str] | None = None) -> FileTask:
    (table.parent / "heldout.json").write_text('[{"question": "?", "answer": 1, "choices": [], "unit": "cm"}]')
    return FileTask([str(table)], [str(table.parent / "heldout.json")], columns)


def first(table: Path, columns: dict[str, str] | None = None) -> Prompt:
    return a_task(table, columns).prompt("train", 0)


def a_table(kind: str, folder: Path, **row: str) -> Path:
    table = folder / f"a{kind}"
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist([row]), table)
    elif kind == ".csv":
        cells = ['"' + cell.replace('"', '""') + '"' for cell in row.values()]
        table.write_text(f"{','.join(row)}\n{','.join(cells)}\n", encoding="utf-8")
    else:
        table.write_text(json.dumps(row))
    return table


@pytest.mark.parametrize(
    ("written", "choices"),
    [
        (json.dumps(["😀", "é"]), ["😀", "é"]),
        ("['😀', 'é']", ["😀", "é"]),
        ('["a\\/b", "it\'s"]', ["a/b", "it's"]),
        ("[true, false]", ["true", "false"]),
        ("[True, False]", ["True", "False"]),
        ("[1.50, 0x10, 'a']", ["1.50", "0x10", "a"]),
        ("['é', 2.0,\n 3.10]", ["é", "2.0", "3.10"]),
        ('["a", 1E5, -0.0]', ["a", "1E5", "-0.0"]),
        ("('x', 'y')", ["x", "y"]),
        ("['[', ']']", ["[", "]"]),
    ],
)
@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_choices_written_as_text(written: str, choices: list[str], kind: str, tmp_path: Path) -> None:
    table = a_table(kind, tmp_path, question="?", answer="B", choices=written)
    lines = [f"({letter}) {choice}" for letter, choice in zip("ABC", choices, strict=False)]
    assert first(table, {"choices": "choices"}).question == "\n".join(["?", *lines])


@pytest.mark.parametrize(
    "written",
    [
        *("[" * 100_000, "(" * 100_000, f"[{'-' * 100_000}1]", f"[{'1+' * 100_000}1]", '["a", null]', "['a', None]"),
        *('["\\ud800", "b"]', "[b'a']", "[['a'], 'b']", "{'A': 'x'}", "a, b", "[...]", "[1+2j]", f"[{'1,' * 60_000}1]"),
    ],
    ids=lambda text: text[:12],
)
@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_choices_that_are_none_are_named(written: str, kind: str, tmp_path: Path) -> None:
    table = a_table(kind, tmp_path, question="?", answer="A", choices=written)
    with pytest.raises(ValueError, match=r"row 0: column 'choices': .* allowed") as caught:
        a_task(table, {"choices": "choices"})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_classes_are_their_names(tmp_path: Path) -> None:
    classes = datasets.ClassLabel(names=["cat", "dog"])
    shape = datasets.Features({"question": datasets.Value("string"), "answer": classes, "more": [classes]})
    rows = [{"question": "?", "answer": number, "more": [0, 1]} for number in (1, -1)]
    datasets.Dataset.from_list(rows[:1], shape).to_parquet(tmp_path / "a.parquet")
    prompt = first(tmp_path / "a.parquet")
    assert (prompt.answer, prompt.columns["more"]) == ("dog", ["cat", "dog"])
    datasets.Dataset.from_list(rows, shape).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="row 1: column 'answer': no answer"):
        a_task(tmp_path / "a.parquet")


@pytest.mark.parametrize("question", ["", "  ", "<image>"])
def test_where_nothing_is_asked_and_nothing_shown_the_row_is_refused(question: str, tmp_path: Path) -> None:
    rows = [json.dumps({"question": each, "answer": 1}) for each in ("?", question)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    with pytest.raises(ValueError, match=r"row 1: column .question.: (no question|refers to)"):
        a_task(tmp_path / "a.jsonl")


def test_a_long_list_is_read() -> None:
    assert len(read_list("['a', " + "1, " * 30_000 + "'b']")) == 30_002


@pytest.mark.parametrize(
    "value", ["[" * 100_000, "[" * 200 + "]" * 200, '{"a":' * 400 + "1" + "}" * 400, '{"a":' * 9999]
)
@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_brackets_too_deep_are_refused(value: str, kind: str, tmp_path: Path) -> None:
    table = tmp_path / f"a.{kind}"
    table.write_text(f'{{"question": "?", "answer": 1, "more": {value}}}')
    with pytest.raises(ValueError, match="line 1: not JSON: its brackets are too deep; allowed are 100"):
        a_task(table)


def test_other_columns_of_json_are_numbers_as_far_as_there_are_such(tmp_path: Path) -> None:
    row = f'{{"question": "?", "answer": 1, "a.b": 2.5, "long": {"9" * 5000}, "deep": {"[" * 90}{"]" * 90}, "many": '
    (tmp_path / "a.jsonl").write_text(row + f"[{'{}, ' * 200}[]]}}")
    columns = first(tmp_path / "a.jsonl").columns
    assert columns["a.b"] == 2.5 and columns["long"] == "9" * 5000 and len(columns["many"]) == 201


@pytest.mark.parametrize(
    "content",
    [
        '"a,b,c,d";question;answer\nz;?;4\n',
        '"question";"an, other; name";answer\n?;;4\n',
        'question,"a;b;c;d",answer\n?,,4\n',
        '"two\nlines, in; one",question,answer\nz,?,4\n',
        "question\tanswer\ta,b,c,d\n?\t4\t\n",
        "\nquestion;answer\n?;4\n",
        "question,answer\r?,4\r",
        'question,answer,"a,b;c;d;e"\n?,4,x\n',
        "question;answer;note\n?;4;one, two, three\n",
    ],
)
def test_what_parts_the_cells_is_found_outside_of_quotes(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(content, newline="")
    prompt = first(tmp_path / "a.csv")
    assert (prompt.question, prompt.answer) == ("?", "4")


@pytest.mark.parametrize("value", ["[1]", "{}", r'"\ud800"'])
def test_a_unit_that_is_none_is_named(value: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"question": "?", "answer": 1, "unit": {value}}}')
    with pytest.raises(ValueError, match=r"a\.jsonl: row 0: column 'unit': unit is .*; allowed is text or a number"):
        a_task(tmp_path / "a.jsonl", {"unit": "unit"})


F32 = np.array([0.1, 2.0], np.float32)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)])
def test_choices_of_32_bits_are_short(kind: Any, tmp_path: Path) -> None:
    table = {"question": ["?"], "answer": ["A"], "choices": pa.array([F32.tolist()], kind)}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert first(tmp_path / "a.parquet", {"choices": "choices"}).question == "?\n(A) 0.1\n(B) 2"


@pytest.mark.parametrize(
    ("column", "answer"),
    [
        (pa.array([Decimal("0.0000000100")], pa.decimal128(20, 10)), "0.0000000100"),
        (pa.array([Decimal("0")], pa.decimal128(20, 10)), "0.0000000000"),
        (pa.array([1609459200000000001], pa.timestamp("ns")), "2021-01-01 00:00:00.000000001"),
        (pa.array([1609459200000000000], pa.timestamp("ns")), "2021-01-01"),
        (pa.array([1609459200], pa.timestamp("s", tz="UTC")), "2021-01-01 00:00:00+00:00"),
    ],
)
def test_small_numbers_and_times(column: pa.Array, answer: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["?"], "answer": column}), tmp_path / "a.parquet")
    assert first(tmp_path / "a.parquet").answer == answer


@pytest.mark.parametrize("folder", [True, False])
def test_a_table_that_is_no_file_is_said(folder: bool, tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    if folder:
        table.mkdir()
    with pytest.raises(ValueError, match=r"a\.csv: is no file$" if folder else r"a\.csv: no such file$"):
        a_task(table)


def test_a_long_cell_is_read_after_a_short_table_which_bounds_nobody_else(tmp_path: Path) -> None:
    for name, text in ("short", "a"), ("long", "a" * 200_000):
        (tmp_path / f"{name}.csv").write_text(f"question,answer\n{text},1\n")
        assert first(tmp_path / f"{name}.csv").question == text
        assert next(csv.reader(["b" * 100_000])) == ["b" * 100_000]
