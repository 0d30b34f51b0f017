"""Readers of a user's files under random input: a right result, or the error that they promise, and nothing else."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewards.annotation.visualprm import as_annotated, parse_record
from rewards.files.images import UnreadableImageError, read_image
from rewards.files.json_records import UnusableRecordError
from rewards.files.record_files import annotated_table, write_table
from rewards.models.encoding import Encoder
from rewards.outcome.preference_files import load_preferences, save_preferences
from rewards.outcome.preferences import Preference, as_preference, parse_preference
from rewards.process_model.guard import HeldBack
from rl.checkpoints.ledger import LEDGER_FILE, Ledger
from rl.checkpoints.manifest import LIST_FILE, check_files, list_files
from rl.config import Config
from rl.config.reading import YAMLTextError, load_config, read_yaml
from rl.errors import ConfigError
from rl.evaluating.benchmark_scoring import ScoredChunk
from rl.files.chunked_file import ChunkedFile
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.files import FileTask
from selection.buffer import StreamingBuffer
from selection.config import SelectionConfig
from selection.rows import load_buffer, save_buffer
from tests.fixtures.builders import a_prompt, an_annotated, an_image
from tests.fixtures.wrong_files import encoded

few = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["steps", "learner", "samples", "task", "columns", "judge", "endpoint", "name", "&a", "*a", "<<"]
)
YAML = st.lists(
    KEYS
    | st.sampled_from([": ", "\n", "  ", "- ", "[", "]", "{", "}", "!!int ", "'", "#", "|", "? "])
    | st.text(max_size=3),
    max_size=14,
).map("".join)


def fields(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these fields, and anything in them."""
    texts = st.sampled_from(["red.png", "How many?", "2", "3", "\ud800", "<image>", "<|image_pad|>", "../x.png", ""])
    step = st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["step", "score", "num_mc_correct", "num_mc_total"], texts | JSON)
    )
    values = texts | JSON | st.lists(step, max_size=3) | st.lists(texts, max_size=2)
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))


def as_line(content: Any) -> bytes:
    return json.dumps(content).encode()


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with some bytes changed, or cut off."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(changed)))]) if draw(st.booleans()) else bytes(changed)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(SHIPPED_POLICY))


@few
@given(YAML | st.text(max_size=20), st.lists(st.tuples(KEYS, YAML).map("=".join) | st.text(max_size=12), max_size=2))
def test_configurations_and_overrides(tmp_path: Path, text: str, overrides: list[str]) -> None:
    with suppress(YAMLTextError):
        read_yaml(text)
    (tmp_path / "experiment.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    try:
        assert isinstance(load_config(tmp_path / "experiment.yaml", overrides), Config)
    except ConfigError as error:
        assert len(str(error)) < 2000


@few
@given(
    fields(
        "image",
        "question",
        "question_orig",
        "answer",
        "response",
        "num_mc_sequences",
        "steps_with_score",
        "conversations",
    )
)
def test_annotation_lines(encoder: Encoder, content: dict[str, Any]) -> None:
    with suppress(UnusableRecordError):
        record = parse_record(as_line(content))
        assert all(0 <= step.correct <= step.sampled for step in record.steps)
        entry = as_annotated(record, "name", [an_image()], encoder, "\n", closed=True)
        assert len(entry.rollout.steps) == len(entry.counts.sampled)


@few
@given(st.binary(max_size=40) | JSON.map(as_line))
def test_lines_of_anything(line: bytes) -> None:
    for parse in (parse_record, parse_preference):
        with suppress(UnusableRecordError):
            parse(line)  # type: ignore[operator]


@few
@given(fields("image", "prompt", "chosen", "rejected"))
def test_preference_lines(encoder: Encoder, content: dict[str, Any]) -> None:
    with suppress(UnusableRecordError):
        pair = as_preference(parse_preference(as_line(content)), "name", [], encoder)
        assert pair.chosen != pair.rejected


@settings(few, max_examples=25)
@given(st.lists(fields("question", "answer", "images", "source").map(as_line) | st.binary(max_size=20), max_size=3))
def test_prompt_files(tmp_path_factory: pytest.TempPathFactory, rows: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "red.png").write_bytes(encoded(an_image(), "PNG"))
    (folder / "train.jsonl").write_bytes(b"\n".join(rows))
    (folder / "heldout.jsonl").write_bytes(as_line({"question": "?", "answer": "1", "images": None}))
    try:
        task = FileTask([str(folder / "train.jsonl")], [str(folder / "heldout.jsonl")])
        assert isinstance(task.prompt("train", 1).question, str)
    except ValueError as error:
        assert str(folder / "train.jsonl") in str(error)


PICTURES = {kind: encoded(an_image(size=(9, 7)), kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")}


@settings(few, max_examples=150)
@given(st.sampled_from(sorted(PICTURES)).flatmap(lambda kind: mutated(PICTURES[kind])) | st.binary(max_size=60))
def test_images(content: bytes) -> None:
    with suppress(UnreadableImageError):
        assert read_image(content).mode == "RGB"


def a_buffer() -> StreamingBuffer:
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=0.5, capacity=8, max_all_negative=1), seed=1)
    buffer.offer([an_annotated([8, 0]), an_annotated([3, 3]), an_annotated([0, 0])], np.array([0.3, 0.2, 0.1]))
    return buffer


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a checkpoint holds as Parquet."""
    folder = tmp_path_factory.mktemp("tables")
    write_table(annotated_table([an_annotated([8, 0]), an_annotated([3, 3])]), folder / "held_back.parquet")
    save_preferences([Preference(a_prompt(), (1, 2), (3,))], folder / "preferences.parquet")
    save_buffer(a_buffer().state(), folder / "buffer.parquet")
    return folder


def read_again(kind: str, path: Path) -> None:
    if kind == "held_back":
        HeldBack(0.5, 8, 0).load(path)
    elif kind == "preferences":
        load_preferences(path)
    else:
        load_buffer(path)


@settings(few, max_examples=120)
@given(st.data())
def test_tables_of_checkpoints(tables: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["held_back", "preferences", "buffer"]))
    path = tables / "mutated.parquet"
    path.write_bytes(data.draw(mutated((tables / f"{kind}.parquet").read_bytes())))
    try:
        read_again(kind, path)
    except ValueError as error:
        assert str(path) in str(error)


@few
@given(st.data())
def test_checkpoints_and_their_lists(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "progress.json").write_bytes(as_line({"step": 10, "stream": {"cursor": 3}}))
    list_files(folder)
    check_files(folder)
    name = data.draw(st.sampled_from([LIST_FILE, "progress.json"]))
    was = (folder / name).read_bytes()
    now = data.draw(mutated(was) | st.binary(max_size=20) | JSON.map(as_line))
    (folder / name).write_bytes(now)
    if name == "progress.json" and now != was:
        with pytest.raises(ConfigError, match=r"progress\.json"):
            check_files(folder)
    else:
        with suppress(ConfigError):
            check_files(folder)


@few
@given(st.binary(max_size=40) | JSON.map(as_line))
def test_ledgers(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEDGER_FILE).write_bytes(content)
    with suppress(ConfigError):
        assert Ledger.open(tmp_path).recoveries >= -(2**70)


@few
@given(st.data())
def test_journals(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("journal") / "corpus.jsonl"
    journal = path.with_name(path.name + ".progress")
    chunks = [b"one\n", b"two\nthree\n"]
    file = ChunkedFile(path, {"seed": 1}, ScoredChunk)
    for number, chunk in enumerate(chunks, start=1):
        file.append(chunk, ScoredChunk(number))
    file.close()
    journal.write_bytes(data.draw(mutated(journal.read_bytes())))
    with suppress(ConfigError):
        file = ChunkedFile(path, {"seed": 1}, ScoredChunk)
        assert file.notes == [ScoredChunk(number) for number in range(1, len(file.notes) + 1)]
        file.close()
    assert path.read_bytes() == b"".join(chunks), "nothing is lost"
