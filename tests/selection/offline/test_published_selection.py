"""The offline tool, against the published rule written straight down with Python's ``json``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from selection.offline import corpus
from selection.offline.choosing import Selection, SelectionError, select
from tests.fixtures.corpus_files import scoring, some_file, varied

pytestmark = pytest.mark.filterwarnings("error")

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
