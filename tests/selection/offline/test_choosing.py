"""The offline tool: what it reads, what becomes of every line, and what it writes."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selection.candidates import Candidates
from selection.config import SelectionConfig
from selection.offline import corpus
from selection.offline.choosing import (
    Selection,
    SelectionError,
    select,
    top,
)
from selection.offline.parts import Scoring
from selection.selectors import make_selector
from tests.fixtures.corpus_files import scoring, some_file, some_record, varied

pytestmark = pytest.mark.filterwarnings("error")


def test_reports_say_what_became_of_every_line(tmp_path: Path) -> None:
    records = [
        some_record(1, 0),
        b"\n",
        b"{broken\n",
        some_record("half", None),
        some_record(0.5, None, 0),
        some_record(1, 0, image=""),
        some_record(0, 1) | {"steps_with_score": [{"step": " ", "score": 1}, {"step": "b", "score": 0}]},
        b'{"question": "\xff"}\n',
        some_record(10**400),
        {"image": "a.png"},
        b"[1, 2]\n",
        some_record(1, 0, question="\ud800"),
    ]
    file = some_file(tmp_path / "a.jsonl", records)
    report = select(Selection((file,), scoring(), 1.0, tmp_path / "out"))
    (numbers,) = report.files
    assert numbers.numbers == (11, 5, 5, 1, 4, 4)
    assert numbers.not_scorable == {"no step with a numeric score": 2}
    assert numbers.left_out == {
        "no image": 1,
        "a step with no text": 1,
        "a step with no numeric score": 1,
        "a text that UTF-8 cannot hold": 1,
    }
    assert [(line, reason.split(":")[0]) for _, line, reason in report.broken] == [
        (3, "not JSON"),
        (8, "not UTF-8"),
        (9, "a score is too large"),
        (11, "not a JSON object"),
    ]
    summary = report.summary()
    assert re.search(r"a\.jsonl +11 +5 +5 +1 +4 +4", summary)
    assert re.search(r"no image +1\b", summary)


def test_line_numbers_count_through_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "PART_BYTES", 500)
    records: list[Any] = [*varied(40), b"\r\n", b"{\n"]
    file = some_file(tmp_path / "a.jsonl", [*records, b"\r", *varied(40), b"}"])
    report = select(Selection((file,), scoring(), 1.0, tmp_path / "out", format="parquet", workers=2))
    assert [line for _, line, _ in report.broken] == [42, 84]
    assert pq.read_table(tmp_path / "out")["line"].to_pylist() == [*range(1, 41), *range(44, 84)]


@pytest.mark.parametrize("workers", [1, 2])
def test_strict_stops_at_the_first_broken_line(tmp_path: Path, workers: int) -> None:
    files = (some_file(tmp_path / "a.jsonl", varied(3)), some_file(tmp_path / "b.jsonl", [*varied(2), b"{\n", b"}\n"]))
    with pytest.raises(SelectionError, match=r"b\.jsonl:3: not JSON: .*--strict"):
        select(Selection(files, scoring(), 0.5, tmp_path / "out", strict=True, workers=workers))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


def test_parquet_holds_the_same_records(tmp_path: Path) -> None:
    records = [*varied(30), some_record(1, 0, image=["a.png", 2**70]), some_record(1, 0, image="\ud800")]
    file = some_file(tmp_path / "a.jsonl", records)
    select(Selection((file,), scoring(), 0.5, tmp_path / "lines"))
    select(Selection((file,), scoring(), 0.5, tmp_path / "table", format="parquet"))
    rows = pq.read_table(tmp_path / "table").to_pylist()
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [[row["human"], row["labels"]] for row in rows] == [
        [turn["value"] for turn in line["conversations"]] for line in lines
    ]
    assert [row["image"] for row in rows] == ["a.png"] * (len(rows) - 1) + [json.dumps(["a.png", 2**70])]
    assert {row["source"] for row in rows} == {str(file)}
    for row in rows:
        record = records[row["line"] - 1]
        assert row["question"] == record["question"]
        assert row["labels"] == [float(step["score"] > 0) for step in record["steps_with_score"]]
        scores = [step["score"] for step in record["steps_with_score"]]
        p = np.mean(row["labels"])
        reliability = np.mean([s for s in scores if s > 0]) if p else 1
        assert row["score"] == pytest.approx((p * (1 - p) + 0.2) * reliability)


def without_answers(**more: Any) -> bytes:
    return json.dumps(some_record(None) | more).encode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "nothing is in it"),
        (b"\n \n", "nothing is in it"),
        (b"[]", "nothing is in it"),
        (gzip.compress(b"", mtime=0), "nothing is in it"),
        (json.dumps(some_record(1, 0)).encode("utf-16"), "UTF-16; allowed is text in UTF-8"),
        (json.dumps(some_record(1, 0)).encode().decode().encode("utf-16-le"), "holds zero bytes, as UTF-16 does"),
        (gzip.compress(json.dumps(some_record(1, 0)).encode(), mtime=0)[:-9], "its compression is damaged"),
        (b"PK\x03\x04", "zip archive"),
        (b"PAR1", "not readable as Parquet"),
        (b"id,steps\n1,none\n", "no line is an annotation record, of 2; line 1: not JSON"),
        (json.dumps(some_record(1, 0), indent=1).encode(), "no line is an annotation record, of 14; line 1: not JSON"),
        (b"[1, 2]", "no line is an annotation record, of 2; line 1: not a JSON object"),
        (without_answers(), "no step with a numeric score (1)"),
        (json.dumps(some_record(1, 0, image="")).encode(), "no image (1)"),
    ],
)
def test_where_nothing_can_be_read_nothing_is_written(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    for format in ("jsonl", "parquet"):
        with pytest.raises(SelectionError, match=re.escape(told)) as caught:
            select(Selection((tmp_path / "a.jsonl",), scoring(), 0.5, tmp_path / "out", format=format))
        assert str(caught.value).startswith(f"{tmp_path / 'a.jsonl'}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def zstandard(content: bytes) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(content)
    return packed.getvalue().to_pybytes()


def parquet(records: list[dict[str, Any]]) -> bytes:
    packed = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(records), packed)
    return packed.getvalue().to_pybytes()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "mark": lambda lines: b"\xef\xbb\xbf" + lines,
    "gzip": gzip.compress,
    "gzip in two members": lambda lines: gzip.compress(lines[:99]) + gzip.compress(lines[99:]),
    "zstandard": zstandard,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "gzip with a mark": lambda lines: gzip.compress(b"\xef\xbb\xbf" + lines),
    "parquet": lambda lines: parquet([json.loads(line) for line in lines.splitlines()]),
    "list": lambda lines: b"[" + b",".join(lines.splitlines()) + b"]",
    "list over lines": lambda lines: json.dumps([json.loads(line) for line in lines.splitlines()], indent=2).encode(),
    "list in gzip": lambda lines: gzip.compress(b"[\r\n" + b",\r\n".join(lines.splitlines()) + b"\r\n]\r\n"),
}


@pytest.mark.parametrize("packing", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_files_as_people_keep_them_give_what_plain_lines_give(
    packing: Callable[[bytes], bytes], format: str, tmp_path: Path
) -> None:
    plain = some_file(tmp_path / "a.jsonl", varied(30))
    select(Selection((plain,), scoring(), 0.4, tmp_path / "expected", format=format))
    plain.write_bytes(packing(plain.read_bytes()))
    for workers in (1, 2):
        report = select(Selection((plain,), scoring(), 0.4, tmp_path / "out", format=format, workers=workers))
        assert report.totals == (30, 30, 12, 12, 0, 0)
        assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    file = some_file(tmp_path / "a.jsonl", [*varied(200), some_record("inf", 0)])
    select(Selection((file,), scoring(), 0.1, tmp_path / "out", plot=tmp_path / "plot.png", workers=2))
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "out", "plot.png"]


def with_counts(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    steps = [{"step": "s", "score": 0.5, "num_mc_correct": c, "num_mc_total": n} for c, n in pairs]
    return {"image": str(pairs), "question": "q", "steps_with_score": steps}


def test_counts_are_read_where_a_selector_needs_them(tmp_path: Path) -> None:
    kept = [
        with_counts([(8, 16), (0, 16), (0, 0)]),
        with_counts([(2, 4), (0, 4)]),
        with_counts([("16", 16.0), (0, 16)]),
    ]
    others = [
        with_counts([(1, None)]),
        some_record(1, 0),
        with_counts([(3, 2)]),
        with_counts([(-1, 2)]),
        with_counts([(float("nan"), 2)]),
        with_counts([(10**400, 2)]),
        with_counts([(0, 0), (0, 0)]),
        {"image": "a"},
    ]
    seen: list[Candidates] = []
    selector = make_selector("bis_posterior", SelectionConfig())

    def watched(candidates: Candidates) -> np.ndarray:
        seen.append(candidates)
        return selector(candidates)

    for records in (kept, [*kept, *others]):
        file = some_file(tmp_path / "a.jsonl", records)
        report = select(Selection((file,), Scoring("bis_posterior", watched, counts=True), 1.0, tmp_path / "out"))
        images = [json.loads(line)["image"] for line in (tmp_path / "out").read_text().splitlines()]
        assert images == [record["image"] for record in kept]
    assert report.files[0].not_scorable == {
        "a step without num_mc_correct and num_mc_total": 3,
        "counts that cannot be": 4,
        "the selector gives it no score": 1,
    }
    for candidates in seen:
        assert candidates.lengths[:3].tolist() == [3, 2, 2]
        assert candidates.correct[:7].tolist() == [8, 0, 0, 2, 0, 16, 0]
        assert candidates.sampled[:7].tolist() == [16, 16, 0, 4, 4, 16, 16]


@pytest.mark.parametrize(
    ("selector", "told"),
    [
        (lambda candidates: 1 / 0, "--selector mine failed: ZeroDivisionError: division by zero"),
        (
            lambda candidates: np.zeros(3),
            "gave scores of shape (3,) for 2 rollouts; allowed is one score a rollout",
        ),
        (lambda candidates: "high", "--selector mine failed: ValueError"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_selector_that_fails_is_named(
    tmp_path: Path, selector: Callable[[Candidates], Any], told: str, workers: int
) -> None:
    file = some_file(tmp_path / "a.jsonl", varied(2))
    with pytest.raises(SelectionError) as caught:
        select(Selection((file,), Scoring("mine", selector), 0.5, tmp_path / "out", workers=workers))
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@given(st.lists(st.sampled_from([0.0, 0.2, 0.25, 0.3]), min_size=1), st.floats(0.001, 1))
def test_top_is_a_stable_sort(scores: list[float], ratio: float) -> None:
    best = sorted(range(len(scores)), key=lambda place: scores[place], reverse=True)
    assert top(np.array(scores), ratio).tolist() == sorted(best[: max(1, int(len(scores) * ratio))])
