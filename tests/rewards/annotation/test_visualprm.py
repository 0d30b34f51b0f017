"""VisualPRM400K's format: what is written is what is read, and what a reward model learns from it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rewards.annotation.visualprm import (
    Record,
    ScoredStep,
    as_annotated,
    format_record,
    make_record,
    parse_record,
)
from rewards.files.json_records import UnusableRecordError
from rewards.models.encoding import Encoder
from rewards.models.steps import Markers
from rewards.process_model.labels import hard, soft
from rewards.records import Annotated, StepCounts
from rl.files.named_checkpoint import SHIPPED_POLICY
from tests.fixtures.builders import a_prompt, a_rollout, an_image

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
COUNT = st.integers(0, 64) | st.floats(0, 64, allow_nan=False)
COUNTS = st.tuples(COUNT, COUNT).map(sorted)
MISSING = st.just([0, 0])
# A record without any evidence is of no use; the last step has some.
STEPS = st.tuples(
    st.lists(st.tuples(TEXT, COUNTS | MISSING), max_size=5),
    st.tuples(TEXT, COUNTS.filter(lambda pair: pair[1] > 0)),
).map(lambda parts: tuple(ScoredStep(text, *map(float, counts)) for text, counts in [*parts[0], parts[1]]))
RECORDS = st.builds(
    Record,
    images=st.lists(TEXT, min_size=1, max_size=3).map(tuple),
    question=TEXT,
    answer=st.text(st.characters(exclude_categories=["Cs"])),
    response=st.text(st.characters(exclude_categories=["Cs"])),
    continuations=st.integers(1, 64),
    steps=STEPS,
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(SHIPPED_POLICY))


@given(RECORDS)
def test_what_is_written_is_what_is_read(record: Record) -> None:
    line = format_record(record)
    assert line.endswith("\n") and line.count("\n") == 1
    assert parse_record(line.encode()) == record


@given(RECORDS)
def test_a_record_has_the_published_fields(record: Record) -> None:
    """Read back with nothing but ``json``, as somebody else would."""
    content = json.loads(format_record(record))
    assert list(content) == [
        *("image", "question", "question_orig", "answer", "response", "num_mc_sequences", "steps_with_score")
    ]
    assert content["image"] == (record.images[0] if len(record.images) == 1 else list(record.images))
    for step, written in zip(record.steps, content["steps_with_score"], strict=True):
        assert list(written) == ["step", "score", "num_mc_correct", "num_mc_total"]
        assert type(written["score"]) is float
        assert (written["num_mc_correct"], written["num_mc_total"]) == (step.correct, step.sampled)
        assert written["score"] == (step.correct / step.sampled if step.sampled > 0 else 0.0)
        whole = step.correct.is_integer() and step.sampled.is_integer()
        assert whole == (type(written["num_mc_correct"]) is type(written["num_mc_total"]) is int)


def test_tagged_steps_of_a_record_have_kinds() -> None:
    """A heading on its own is a step here, since the record labels it; a section goes on until the next one."""
    encoder = Encoder(str(SHIPPED_POLICY), markers=Markers(r"\[Visual Elements\]", r"\[Reasoning\]"))
    texts = ["First", "[Visual Elements]", "a cat", " [Reasoning] so 1", "and so on"]
    record = Record(("a.png",), "Total:", "1", "", 8, tuple(ScoredStep(text, 1.0, 8.0) for text in texts))
    steps = as_annotated(record, "name", [an_image()], encoder, "\n", closed=True).rollout.steps
    assert [span.kind for span in steps] == ["", "perception", "perception", "reasoning", "reasoning"]
    plain = as_annotated(record, "name", [an_image()], Encoder(str(SHIPPED_POLICY)), "\n", closed=True).rollout.steps
    assert [(span.start, span.end) for span in plain] == [(span.start, span.end) for span in steps]
    assert {span.kind for span in plain} == {""}


def test_an_annotated_rollout_becomes_a_record() -> None:
    words = {10: "one", 11: "\n", 12: "zwei", 13: "\n", 14: "Répondre"}
    entry = Annotated(
        a_prompt(answer="7"), a_rollout([2, 2], tail=1), StepCounts(np.array([3, 0]), np.array([4, 0]), 5)
    )
    record = make_record(entry, ["x/1.png"], 4, lambda tokens: "".join(words[token] for token in tokens))
    assert json.loads(format_record(record)) == {
        "image": "x/1.png",
        "question": entry.prompt.question,
        "question_orig": entry.prompt.question,
        "answer": "7",
        "response": entry.rollout.text,
        "num_mc_sequences": 4,
        "steps_with_score": [
            {"step": "one", "score": 0.75, "num_mc_correct": 3, "num_mc_total": 4},
            {"step": "zwei", "score": 0.0, "num_mc_correct": 0, "num_mc_total": 0},
        ],
    }
    assert json.loads(format_record(make_record(entry, [], 4, lambda tokens: "a" * len(tokens))))["image"] is None
    assert "é" in format_record(make_record(entry, [], 4, lambda tokens: "é" * len(tokens))), (
        "characters stay as they are"
    )


def a_line(**changes: Any) -> bytes:
    """A record of VisualPRM400K as it is published, whose solution went wrong: the tail was not sampled."""
    content = {
        "image": "mathv360k/1234.png",
        "question": "<image>\nYour task is to answer the question below.\n\nHow many cats?",
        "question_orig": "<image>\nHow many cats?",
        "answer": "3",
        "num_mc_sequences": 16,
        "steps_with_score": [
            {"step": "There are cats.", "score": 0.75, "num_mc_correct": 12, "num_mc_total": 16},
            {"step": "Two of them.", "score": 0.0, "num_mc_correct": 0, "num_mc_total": 16},
            {"step": "The answer is 2.", "score": 0.0, "num_mc_correct": 0, "num_mc_total": 0},
        ],
    } | changes
    return json.dumps({key: value for key, value in content.items() if value is not ...}).encode()


def steps(*evidence: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"step": f"Step {number}."} | entry for number, entry in enumerate(evidence, start=1)]


def test_a_published_record_is_read(encoder: Encoder) -> None:
    entry = as_annotated(parse_record(a_line()), "a.jsonl:1", [an_image()], encoder, "\n", closed=False)
    assert entry.prompt.question == "How many cats?"
    assert hard(entry.counts)[:2].tolist() == [1.0, 0.0] and np.isnan(hard(entry.counts)[2])
    assert soft(entry.counts)[0] == 0.75
    assert parse_record(a_line(question_orig=...)).question.startswith("<image>\nYour task")


@pytest.mark.parametrize(
    ("evidence", "counts"),
    [
        ([{"score": 0.25}], [(0.25, 1)]),
        ([{"score": "0.5"}, {"score": None}, {}], [(0.5, 1), (0, 0), (0, 0)]),
        ([{"score": 1, "num_mc_correct": None, "num_mc_total": 4}], [(1, 1)]),
        ([{"num_mc_correct": "2", "num_mc_total": "4"}], [(2, 4)]),
        ([{"score": 0.9, "num_mc_correct": 0.5, "num_mc_total": 4.5}], [(0.5, 4.5)]),
        ([{"score": 0.0, "num_mc_correct": 0, "num_mc_total": 0}, {"score": 0.0}], [(0, 0), (0, 1)]),
    ],
)
def test_evidence_is_counts_or_else_the_score(evidence: list[dict], counts: list[tuple[float, float]]) -> None:
    record = parse_record(a_line(steps_with_score=steps(*evidence)))
    assert [(step.correct, step.sampled) for step in record.steps] == counts


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not JSON"),
        (b'{"image": ', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "not a JSON object"),
        (a_line(image=...), "no image"),
        (a_line(image=""), "no image"),
        (a_line(image=[]), "no image"),
        (a_line(image=["a.png", None]), "no image"),
        (a_line(question=..., question_orig=...), "no question"),
        (a_line(question=3, question_orig=""), "no question"),
        (a_line(steps_with_score=...), "no steps"),
        (a_line(steps_with_score=[]), "no steps"),
        (a_line(steps_with_score={"step": "x"}), "no steps"),
        (a_line(steps_with_score=["x"]), "step 1 is not an object"),
        (a_line(steps_with_score=steps({"score": 1.0}, {"score": 1.0, "step": " \n"})), "step 2 has no text"),
        (a_line(steps_with_score=steps({"score": 1.0, "step": None})), "step 1 has no text"),
        (a_line(steps_with_score=steps({"score": "high"})), "step 1 has a score or count that is no number"),
        (a_line(steps_with_score=steps({"score": [1]})), "step 1 has a score or count that is no number"),
        (a_line(steps_with_score=steps({"score": float("nan")})), "step 1 has a score or count that is no number"),
        (a_line(steps_with_score=steps({"score": 10**400})), "step 1 has a score or count that is no number"),
        (a_line(steps_with_score=steps({"score": 1.5})), "step 1 has 1.5 right of 1"),
        (a_line(steps_with_score=steps({"num_mc_correct": 3, "num_mc_total": 2})), "step 1 has 3 right of 2"),
        (a_line(steps_with_score=steps({"num_mc_correct": -1, "num_mc_total": 2})), "step 1 has -1 right of 2"),
        (a_line(steps_with_score=steps({}, {"num_mc_correct": 0, "num_mc_total": 0})), "no step with a score"),
    ],
)
def test_records_that_are_of_no_use_say_why(line: bytes, reason: str) -> None:
    with pytest.raises(UnusableRecordError, match=f"^{reason}"):
        parse_record(line)


NUMBERED = st.sampled_from(["1:", "2:", "Count:"])
WORDS = st.lists(st.sampled_from([" red", " 0", " 2", " =", " 3", " *", " nothing"]), max_size=6)
GRID_STEPS = st.lists(st.builds(lambda start, words: start + "".join(words), NUMBERED, WORDS), min_size=1, max_size=5)


@given(GRID_STEPS, st.booleans(), st.data())
def test_spans_are_those_that_the_encoder_finds(
    encoder: Encoder, texts: list[str], closed: bool, data: st.DataObject
) -> None:
    scores = data.draw(st.lists(st.integers(0, 8), min_size=len(texts), max_size=len(texts)))
    scored = tuple(ScoredStep(text, score, 8) for text, score in zip(texts, scores, strict=True))
    record = Record(("a.png",), "Total: red * 4 = ?", "4", "", 8, scored)
    entry = as_annotated(record, "a.jsonl:1", [an_image()], encoder, "\n", closed)
    tokens = entry.rollout.token_ids
    assert entry.rollout.steps == encoder.steps(tokens)
    assert encoder.decode(tokens) == "\n".join(texts) + ("\n" if closed else "")
    assert [encoder.decode(tokens[span.start : span.end]).strip() for span in entry.rollout.steps] == texts
    assert entry.counts.correct.tolist() == scores and len(entry.rollout.logprobs) == len(tokens)


def test_a_step_keeps_its_span_whatever_it_holds(encoder: Encoder) -> None:
    """Separators inside of a step, the answer's marker, and words that the vocabulary does not have."""
    texts = ["1: red\n\n0 2", "Answer: 4", "Donaudampfschiff"]
    record = Record(("a.png",), "?", "4", "", 8, tuple(ScoredStep(text, 1, 2) for text in texts))
    entry = as_annotated(record, "a.jsonl:1", [an_image()], encoder, "\n", closed=False)
    spans = entry.rollout.steps
    assert [span.start for span in spans[1:]] == [span.end for span in spans[:-1]]
    assert (spans[0].start, spans[-1].end) == (0, len(entry.rollout.token_ids))
    decoded = [encoder.decode(entry.rollout.token_ids[span.start : span.end]) for span in spans]
    # The second line of the first step begins with a word that only exists with a space before it.
    assert decoded == ["1: red\n\n 2\n", "Answer: 4\n", ""]


@pytest.mark.parametrize("field", ["question", "step"])
def test_text_that_stands_for_an_image_is_refused(encoder: Encoder, field: str) -> None:
    """A model would look for one more image than the record has."""
    placeholder = encoder.tokenizer.decode([min(encoder.placeholders)])
    question, step = (placeholder if field == name else "1:" for name in ("question", "step"))
    record = Record(("a.png",), question, "4", "", 8, (ScoredStep(step, 1, 2),))
    with pytest.raises(UnusableRecordError, match="image placeholder"):
        as_annotated(record, "a.jsonl:1", [Image.new("RGB", (4, 4))], encoder, "\n", closed=True)


@given(
    st.lists(
        st.tuples(st.text(min_size=1).filter(lambda t: t.strip() and "<prm>" not in t), st.floats(0, 1)), min_size=1
    )
)
def test_what_select_writes_is_read(scored: list[tuple[str, float]]) -> None:
    """Made here as the published conversion makes it: each step stripped, marked, and joined by blank lines."""
    process = "\n\n".join(f"{text.strip()}<prm>" for text, _ in scored)
    human = {"from": "human", "value": f"Question: Which?\nProcess: {process}"}
    labels = {"from": "gpt", "value": [score for _, score in scored]}
    record = parse_record(json.dumps({"image": "7.png", "conversations": [human, labels]}).encode())
    assert record.images == ("7.png",) and record.question == "Which?"
    assert [(step.text, step.correct, step.sampled) for step in record.steps] == [
        (text.strip(), score, 1.0) for text, score in scored
    ]


@pytest.mark.parametrize(
    "conversations",
    [
        None,
        [],
        [{"value": "Question: a\nProcess: b<prm>"}],
        [{"value": "Question: a\nProcess: b<prm>"}, {"value": [1.0, 0.0]}],
        [{"value": "Question: a\nProcess: b"}, {"value": [1.0]}],
        [{"value": "b<prm>"}, {"value": [1.0]}],
        [{"value": 3}, {"value": [1.0]}],
    ],
)
def test_conversations_that_are_no_training_record_are_refused(conversations: object) -> None:
    with pytest.raises(UnusableRecordError, match="conversations is neither a question with steps that end in <prm>"):
        parse_record(json.dumps({"image": "7.png", "conversations": conversations}).encode())
