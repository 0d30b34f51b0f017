"""The offline tool, against the published rule written straight down with Python's ``json``."""

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
from hypothesis import example, given, settings
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

pytestmark = pytest.mark.filterwarnings("error")

PUBLISHED_ALPHA = 0.2
NUMBERS = st.one_of(
    st.sampled_from([0, 0.0, 1, 0.0625, 0.5, 0.9375, 1.0, -0.0, -1, True, False]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(["0.5", " 1e-1 ", "nan", "-0.25", "inf", "1_0", "\u0660.\u0665", 10**30, 10**400, 1e-320]),
)
NO_NUMBERS = st.sampled_from([None, "", "half", [], [0.5], {"score": 1}])
ODD_TEXTS = st.sampled_from([None, "", " \n\t", "\u3000", "\x1c\u00a0", "\ud800", 7, ["text"], "\u2028 seen \x85"])
ODD_QUESTIONS = st.sampled_from(
    [None, "", "  ", 0, 12.50, 10**25, ["a", None, True], {"q": "'"}, "\ud83d", "é\u0301 ü\n"]
)
ODD_IMAGES = st.sampled_from(
    [None, "", [], ["a.png", "b.png"], 2**70, 1e16, True, {"path": "ä"}, "\udcff", float("nan")]
)
STEP = st.fixed_dictionaries(
    {},
    optional={
        "step": st.one_of(st.text(min_size=1), st.text(min_size=1), ODD_TEXTS),
        "score": st.one_of(NUMBERS, NUMBERS, NUMBERS, NO_NUMBERS),
        "num_mc_total": st.sampled_from([0, 16, None]),
    },
)
PLAIN_STEP = st.fixed_dictionaries(
    {"step": st.text("abcé", min_size=1), "score": st.sampled_from([0.0, 0.25, 0.5, 1.0])}
)
ODD_STEPS = st.sampled_from([None, [], "", 0, False, {}, "steps", 5, {"a": 1}, [1], [None], [{"score": 1}, "x"]])
RECORD = st.one_of(
    st.fixed_dictionaries(
        {"image": st.just("images/é.png"), "steps_with_score": st.lists(PLAIN_STEP, min_size=1, max_size=4)},
        optional={"question": st.text(max_size=5), "question_orig": st.text(max_size=5)},
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "image": st.one_of(st.text(min_size=1), ODD_IMAGES),
            "question": st.one_of(st.text(), ODD_QUESTIONS),
            "question_orig": st.one_of(st.text(), ODD_QUESTIONS),
            "response": st.one_of(st.text(), st.just("\udfff"), st.just(float("inf"))),
            "steps_with_score": st.one_of(st.lists(STEP, max_size=5), st.lists(STEP, max_size=5), ODD_STEPS),
        },
    ),
)
NO_RECORDS = st.sampled_from(
    [
        *(b"", b"  ", b"\x0b\x1f", "\u2003".encode(), b"{", b"[]", b"null", b"5", b"nonsense", b"{} {}", b"[" * 5000),
        *(b"\xef\xbb\xbf{}", b'{"a": "\xff"}', b'{"a": "\x01"}', b'{"image": 1' + b"0" * 5000 + b"}"),
        b'{"steps_with_score": [{"score": 1, "step": "\xed\xa0\x80"}]}',
        b'{"steps_with_score": [{"score": 1}],}',
        b'{"image": "a",\r"b": 1}',
    ]
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """One line of a file, with its end."""
    if draw(st.integers(0, 9)) == 0:
        content = draw(NO_RECORDS)
    else:
        ascii_only = draw(st.booleans())
        content = json.dumps(draw(RECORD), ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        content = draw(st.sampled_from([b"", b"", b"", b" ", "\u00a0".encode()])) + content
    return content + draw(st.sampled_from([b"\n", b"\n", b"\n", b"\n", b"\r\n", b"\r"]))


def published(file: Path, ratio: float, alpha: float) -> list[bytes]:
    """The rule of arXiv 2602.04145, a file at a time. What its authors' program would stop at is passed over."""
    ranking = []
    for line in re.split(rb"\r\n|\n|\r", file.read_bytes()):
        try:
            record = json.loads(line.decode().strip())
            steps = record.get("steps_with_score") or []
            scores = [float(s) for s in (step.get("score") for step in steps) if is_number(s)]
        except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
            continue
        if scores:
            positive = [score for score in scores if score > 0]
            p = len(positive) / len(scores)
            total = 0.0
            for score in positive:
                total += score
            ranking.append(((p * (1 - p) + alpha) * (total / len(positive) if positive else 1.0), record))
    best = sorted(range(len(ranking)), key=lambda place: ranking[place][0], reverse=True)
    chosen = sorted(best[: max(1, int(len(ranking) * ratio))])
    records = [published_record(ranking[place][1]) for place in chosen]
    return [record for record in records if record is not None]


def is_number(score: Any) -> bool:
    try:
        float(score)
    except (TypeError, ValueError):
        return False
    return True


def published_record(record: dict[str, Any]) -> bytes | None:
    steps = record["steps_with_score"]
    question = str(record.get("question_orig") or record.get("question") or "").strip()
    texts = [step.get("step") or "" for step in steps]
    if not record.get("image") or not all(isinstance(text, str) and text.strip() for text in texts):
        return None
    if not all(is_number(step.get("score")) for step in steps):
        return None
    human = f"Question: {question}\nProcess: " + "\n\n".join(text.strip() + "<prm>" for text in texts)
    labels = [float(float(step["score"]) > 0) for step in steps]
    turns = [{"from": "human", "value": human}, {"from": "gpt", "value": labels}]
    try:
        return (json.dumps({"image": record["image"], "conversations": turns}, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return None


def scoring(name: str = "bis", alpha: float = PUBLISHED_ALPHA, **more: Any) -> Scoring:
    more = {"keep_nan": name == "bis"} | more
    return Scoring(name, make_selector(name, SelectionConfig(alpha=alpha)), **more)


def some_record(*scores: Any, **more: Any) -> dict[str, Any]:
    steps = [{"step": f"step {place}", "score": score} for place, score in enumerate(scores)]
    return {"image": "a.png", "question": "How many?", "steps_with_score": steps} | more


def some_file(path: Path, records: list[Any]) -> Path:
    path.write_bytes(b"".join(r if isinstance(r, bytes) else json.dumps(r).encode() + b"\n" for r in records))
    return path


def varied(size: int) -> list[dict[str, Any]]:
    """Rollouts with many ties and texts that differ."""
    generator = np.random.default_rng(size)
    scores = generator.integers(0, 5, (size, 4)) / 4
    return [some_record(*row[: 1 + place % 4], question=f"é {place}") for place, row in enumerate(scores.tolist())]


@pytest.mark.slow
@settings(max_examples=150)
@given(
    st.lists(lines(), max_size=12).map(b"".join),
    st.sampled_from([0.1, 0.3, 0.5, 1.0]),
    st.sampled_from([0.0, 0.05, 0.2, 1 / 3]),
    st.sampled_from([1, 64, 300, 10**6]),
)
@example(
    b'{"image": "a", "steps_with_score": [{"step": "s", "score": 1e999}, {"step": "s", "score": 0}]}\n' * 3,
    0.5,
    0.0,
    64,
)
@example(
    b'{"image": "a", "steps_with_score": [{"step": "s", "score": Infinity}]}\n{"image": "a", "steps_with_score": '
    b'[{"step": "s", "score": 0.5}]}',
    0.5,
    0.0,
    64,
)
def test_the_output_is_the_published_one(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ratio: float, alpha: float, part: int
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    file, output = folder / "a.jsonl", folder / "out"
    file.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "PART_BYTES", part)
        patch.setattr(corpus, "BLOCK_BYTES", 1 + part // 2)
        try:
            report = select(Selection((file,), scoring(alpha=alpha), ratio, output))
        except SelectionError:
            assert not output.exists() and not published(file, ratio, alpha)
            return
    assert output.read_bytes() == b"".join(published(file, ratio, alpha))
    (numbers,) = report.files
    assert numbers.read == numbers.scorable + numbers.not_scorable.total() + numbers.broken
    assert numbers.chosen == numbers.written + numbers.left_out.total()
    assert len(report.broken) == min(numbers.broken, corpus.REMEMBERED)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.001, 0.25, 1.0])
def test_many_files_and_any_number_of_workers_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float
) -> None:
    monkeypatch.setattr(corpus, "PART_BYTES", 2000)
    sizes = [1, 300, 0, 40]
    files = tuple(some_file(tmp_path / f"{place}.jsonl", varied(size)) for place, size in enumerate(sizes))
    expected = b"".join(line for file in files if file.stat().st_size for line in published(file, ratio, 0.2))
    for workers in (1, 2, 3):
        output = tmp_path / f"{workers}.out"
        report = select(Selection(files, scoring(), ratio, output, workers=workers))
        assert output.read_bytes() == expected
        assert [file.chosen for file in report.files] == [max(1, int(size * ratio)) if size else 0 for size in sizes]
    chosen_at_random = []
    for workers, seed in ((1, 0), (2, 0), (2, 1)):
        select(Selection(files, scoring("random", seed=seed), 0.25, tmp_path / "random", workers=workers))
        chosen_at_random.append((tmp_path / "random").read_bytes())
    assert chosen_at_random[0] == chosen_at_random[1] != chosen_at_random[2]


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
