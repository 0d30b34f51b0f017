"""Answers, sources, choices and ids of every kind of file are what stands in it."""

from __future__ import annotations

import datetime
import gzip
import json
from decimal import Decimal
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewards.records import PromptError
from rl.tasks.files import FileTask
from rl.tasks.tables import _open_dataset


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def a_task(table: Path, columns: dict[str, str] | None = None) -> FileTask:
    heldout = table.parent / "heldout.json"
    heldout.write_text('[{"q": "?", "question": "?", "answer": 1, "source": "x", "kind": "x", "name": "y"}]')
    return FileTask([str(table)], [str(heldout)], columns)


def answers(table: Path, count: int) -> list[str]:
    task = a_task(table)
    return [task.prompt("train", index).answer for index in range(count)]


JSON_NUMBERS = [
    *("3", "2.5", "3.0", "-0", "-0.0", "1e5", "1E+22", "1.50", "0.0000002", "2e-7", "1e400", "Infinity", "-Infinity"),
    *("12000000000000000000000", "123456789012345678901234567890", "0.1234567890123456789", "9007199254740993", "007"),
]


@pytest.mark.parametrize("number", JSON_NUMBERS[:-1])
@pytest.mark.parametrize("beside", ["2.5", '"text"', "7", "12000000000000000000000", "true"])
@pytest.mark.parametrize("kind", [".jsonl", ".json", ".jsonl.gz"])
def test_numbers_of_json_keep_their_digits(number: str, beside: str, kind: str, tmp_path: Path) -> None:
    rows = [f'{{"question": "?", "answer": {number}}}', f'{{"question": "?", "answer": {beside}}}']
    text = "[" + ",\n".join(rows) + "]" if kind == ".json" else "\n".join(rows)
    (tmp_path / f"a{kind}").write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    assert answers(tmp_path / f"a{kind}", 2) == [number, beside.strip('"')]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2021-01-02",
            "2021-01-02 00:00:00",
            "2021-01-02T10:30:00Z",
            "10:30",
            "1/2",
            "3.0",
            "007",
            "+4",
            "1,250",
            "nan",
        ),
        *("NaN", "null", "None", "true", "1e5", "½", "١٢", " 4", r"\frac{1}{2}", "a\nb", "a\u2028b", "😀", "[1, 2]"),
    ],
)
@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_texts_stay_texts(text: str, kind: str, tmp_path: Path) -> None:
    table = tmp_path / f"a{kind}"
    rows = [{"question": "?", "answer": text}, {"question": "?", "answer": "2.5"}]
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    elif kind in (".csv", ".tsv"):
        separator = "," if kind == ".csv" else "\t"
        lines = [separator.join(f'"{cell}"' for cell in row.values()) for row in rows]
        table.write_text("\n".join([separator.join(rows[0]), *lines]), newline="", encoding="utf-8")
    else:
        table.write_text(json.dumps(rows) if kind == ".json" else "\n".join(map(json.dumps, rows)))
    assert answers(table, 2) == [text, "2.5"]


MIDNIGHT = datetime.datetime(2021, 1, 2)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([3.0, 2.5]), ["3", "2.5"]),
        (pa.array([0.1, 1e22], pa.float32()), ["0.1", "10000000000000000000000"]),
        (pa.array([1.2e22, 1e-7]), ["12000000000000000000000", "0.0000001"]),
        (pa.array([-0.0, 1e23]), ["0", "100000000000000000000000"]),
        (pa.array([2**63 - 1, -5]), ["9223372036854775807", "-5"]),
        (pa.array([2**64 - 1, 5], pa.uint64()), ["18446744073709551615", "5"]),
        (pa.array([Decimal("3.00"), Decimal("2.50")]), ["3.00", "2.50"]),
        (pa.array([MIDNIGHT, datetime.datetime(2021, 1, 2, 10, 30)]), ["2021-01-02", "2021-01-02 10:30:00"]),
        (pa.array([MIDNIGHT, MIDNIGHT], pa.timestamp("ns")), ["2021-01-02", "2021-01-02"]),
        (pa.array([MIDNIGHT, MIDNIGHT], pa.date32()), ["2021-01-02", "2021-01-02"]),
        (pa.array([datetime.time(10, 30), datetime.time(0, 0)]), ["10:30:00", "00:00:00"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array(["3", "3.0"]).dictionary_encode(), ["3", "3.0"]),
        (pa.array(["3", "3.0"], pa.large_string()), ["3", "3.0"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_typed_columns_are_written_as_people_would(column: pa.Array, expected: list[str], tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["?", "?"], "answer": column}), tmp_path / "a.parquet")
    assert answers(tmp_path / "a.parquet", 2) == expected


NOTHING: dict[str, tuple[str, bytes]] = {
    "null": (".jsonl", b'{"question": "?", "answer": null}'),
    "NaN": (".jsonl", b'{"question": "?", "answer": NaN}'),
    "empty": (".jsonl", b'{"question": "?", "answer": ""}'),
    "blank": (".jsonl", b'{"question": "?", "answer": " \\n"}'),
    "absent": (".jsonl", b'{"question": "?"}'),
    "empty cell": (".csv", b"?,"),
    "blank cell": (".csv", b"?,  "),
}


@pytest.mark.parametrize("name", NOTHING)
def test_where_nothing_stands_there_is_no_answer(name: str, tmp_path: Path) -> None:
    kind, row = NOTHING[name]
    first = b"question,answer\n1 + 1?,2\n" if kind == ".csv" else b'{"question": "1 + 1?", "answer": 2}\n'
    (tmp_path / f"a{kind}").write_bytes(first + row)
    with pytest.raises(PromptError, match=r"row 1: column 'answer': no answer; allowed is text or a number"):
        a_task(tmp_path / f"a{kind}")


def test_nan_of_a_typed_column_is_no_answer(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["?", "?"], "answer": [1.5, np.nan]}), tmp_path / "a.parquet")
    with pytest.raises(PromptError, match=r"row 1: column 'answer': no answer"):
        a_task(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("value", "said"),
    [("[1]", "of type list"), ("{}", "of type dict"), (r'"\ud83d"', "half of a character")],
)
def test_what_is_no_single_value_is_named(value: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"question": "?", "answer": 1}}\n{{"question": "?", "answer": {value}}}')
    with pytest.raises(
        PromptError, match=f"row 1: column 'answer': answer is .*{said.partition(' is ')[2]}.*text or a num"
    ):
        a_task(tmp_path / "a.jsonl")


def test_sources_choices_and_ids_are_what_stands_in_the_file(tmp_path: Path) -> None:
    rows = [
        '{"q": "?", "answer": 2.50, "kind": 3, "options": [3, 2.50, 1e3], "name": 12000000000000000000000}',
        '{"q": "?", "answer": "A", "kind": 2.5, "options": "[1.0, 22]", "name": 1.0}',
        '{"q": "?", "answer": 7.10, "kind": NaN, "options": NaN, "name": "2021-01-02"}',
        '{"q": "?", "answer": 7, "kind": null, "options": [], "name": true}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    task = a_task(tmp_path / "a.jsonl", {"question": "q", "source": "kind", "choices": "options|", "id": "name"})
    prompts = [task.prompt("train", index) for index in range(4)]
    assert [prompt.source for prompt in prompts] == ["3", "2.5", "a", "a"]
    assert [prompt.answer for prompt in prompts] == ["B", "A", "7.10", "7"]
    assert [prompt.question for prompt in prompts] == ["?\n(A) 3\n(B) 2.50\n(C) 1e3", "?\n(A) 1.0\n(B) 22", "?", "?"]
    names = ["12000000000000000000000", "1.0", "2021-01-02", "true"]
    assert [prompt.id for prompt in prompts] == [f"{tmp_path / 'a.jsonl'}:{name}" for name in names]


def test_an_id_stands_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q,answer,name,source,question\n?,1,a,s,\n?,2,b,s,\n?,3,a,s,\n")
    with pytest.raises(PromptError, match=r"row 2: column 'name': .*a\.csv:a stands twice; allowed is once"):
        a_task(tmp_path / "a.csv", {"question": "q", "id": "name"})


CSV = 'question,answer,images,source\n"Two\nlines, and a comma",2021-01-02,,sums\n"A ""quote""",3.0,,\n'


@pytest.mark.parametrize(
    "content",
    [
        CSV.encode(),
        b"\xef\xbb\xbf" + CSV.encode(),
        gzip.compress(CSV.encode()),
        CSV.replace("\n", "\r\n").encode(),
        (CSV + "\n,,,\n\n").encode(),
        b'question;answer;images;source\n"Two\nlines, and a comma";2021-01-02;;sums\n"A ""quote""";3.0;;\n',
    ],
    ids=["plain", "mark", "gzip", "line ends of Windows", "empty rows at the end", "semicolons"],
)
def test_csv_as_people_keep_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    task = a_task(tmp_path / "table.csv")
    first, second = task.prompt("train", 0), task.prompt("train", 1)
    assert first.question.replace("\r", "") == "Two\nlines, and a comma"
    assert (first.answer, first.source, second.question, second.answer) == ("2021-01-02", "sums", 'A "quote"', "3.0")
    assert second.source == "table"
    assert task.prompt("train", 2).id == first.id


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"question,answer\n?,1,2\n", "line 2: 3 cells for 2 columns"),
        (b"question,answer,answer\n?,1,2\n", "line 1: a column's name stands twice"),
        (b"question,answer\ncaf\xe9,1\n", "line 2: not UTF-8"),
        (b'question,answer\n"open,1\n', "line 2: unexpected end of data"),
        (b"question,answer\n", "holds no rows"),
        (b"", "holds no rows"),
        (b"PK\x03\x04", "workbook"),
    ],
)
def test_csv_that_cannot_be_read_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        a_task(tmp_path / "table.csv")
    assert str(caught.value).startswith(f"{tmp_path / 'table.csv'}: ")


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_text_files_of_a_dataset_folder_are_read_as_they_stand(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "sums"
    folder.mkdir()
    for split, numbers in {"train": ["3", "2.5", "3.0", "1e22"], "test": ["7.0", "8"]}.items():
        rows = [f'{{"question": "{split}", "answer": {number}}}' for number in numbers]
        lines = "\n".join(["question,answer", *(f"{split},{number}" for number in numbers)])
        text = {"jsonl": "\n".join(rows), "json": f"[{', '.join(rows)}]", "csv": lines}[kind]
        (folder / f"{split}.{kind}").write_text(text)
    task = FileTask([f"{folder}:train[1:]+test[:1]"], [f"{folder}:test[1:]"])
    assert [task.prompt("train", index).answer for index in range(5)] == ["2.5", "3.0", "1e22", "7.0", "2.5"]
    assert task.prompt("heldout", 0).answer == "8"
    assert task.sources == ("sums",)


def test_the_first_rows_of_a_split_are_enough_for_a_sample(tmp_path: Path) -> None:
    folder = tmp_path / "sums"
    folder.mkdir()
    pq.write_table(pa.table({"question": ["?"] * 9, "answer": [2.5] * 9}), folder / "train.parquet")
    table = _open_dataset("hub:owner/sums:train[3:]", f"{folder}:train[3:]", folder, sample=4)
    assert [row["answer"] for row in table.rows.read(["answer"], range(4))] == [2.5] * 4
    assert len(table.rows) == 4
