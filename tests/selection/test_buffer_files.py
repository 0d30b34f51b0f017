"""A buffer on disk: the future it would have had, whatever kills the writer; and files that are something else."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewards.files.record_files import annotated_table, write_table
from rewards.records import Annotated, StepCounts
from selection.buffer import StreamingBuffer
from selection.config import SelectionConfig
from selection.rows import load_buffer, save_buffer
from tests.fixtures.builders import (
    a_prompt,
    a_rollout,
    an_annotated,
    some_counts,
)

SETTINGS = SelectionConfig(
    keep_ratio=0.5, capacity=40, half_life=5, max_all_negative=0.4, draw="proportional", fresh=0.5
)


def a_stream(batches: int, seed: int = 0) -> list[tuple[list[Annotated], np.ndarray]]:
    """Batches of ten, with few different scores, two sources, repeated rollouts and some without a score."""
    generator = np.random.default_rng(seed)
    stream = []
    for version in range(batches):
        batch, scores = [], generator.integers(0, 5, 10) / 5
        for place in range(10):
            name, source = int(generator.integers(0, 10 * batches)), "ab"[place % 2]
            rollout = a_rollout([1], group=name, source=source, version=version, tokens=[name], prompt=source)
            batch.append(Annotated(a_prompt(source, source), rollout, some_counts([int(generator.integers(0, 3))])))
        stream.append((batch, np.where(generator.random(10) < 0.1, np.nan, scores)))
    return stream


def run(buffer: StreamingBuffer, stream: list[tuple[list[Annotated], np.ndarray]]) -> list[str]:
    """All that the buffer says, draws included: what a training run would see of it."""
    said = []
    for batch, scores in stream:
        statistics = buffer.offer(batch, scores) | buffer.statistics()
        drawn = [(found.rollout.group, float(found.counts.correct[0])) for found in buffer.draw(7)]
        said.append(json.dumps([statistics, drawn, buffer.seen, buffer.entered, buffer.left]))
    return said


@pytest.mark.parametrize("stop", [0, 1, 12])
def test_a_restored_buffer_has_the_future_it_would_have_had(stop: int, tmp_path: Path) -> None:
    stream = a_stream(25)
    uninterrupted = StreamingBuffer(SETTINGS, seed=0)
    run(uninterrupted, stream[:stop])
    save_buffer(uninterrupted.state(), tmp_path / "buffer.parquet")
    restored = StreamingBuffer(SETTINGS, seed=99)
    run(restored, a_stream(2, seed=5))  # whatever it held before is gone
    restored.restore(load_buffer(tmp_path / "buffer.parquet"))
    expected = run(uninterrupted, stream[stop:])
    assert run(restored, stream[stop:]) == expected
    assert uninterrupted.left["capacity"] + uninterrupted.left["outranked"] > 0
    assert uninterrupted.left["replaced"] > 0


def test_rollouts_that_no_policy_of_the_run_wrote_come_back(tmp_path: Path) -> None:
    """As those of a warm corpus, of version -1."""
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=1, max_all_negative=1), seed=0)
    counts = StepCounts(np.ones(2), np.full(2, 4), -1)
    buffer.offer([Annotated(a_prompt(), a_rollout(version=-1), counts)], np.ones(1))
    save_buffer(buffer.state(), tmp_path / "buffer")
    (entry,) = load_buffer(tmp_path / "buffer").rows.entry
    assert entry.rollout.policy_version == entry.counts.policy_version == -1


def test_a_state_does_not_change_with_its_buffer() -> None:
    buffer = StreamingBuffer(SETTINGS, seed=0)
    run(buffer, a_stream(3))
    state = buffer.state()
    drawn = state.rows.drawn.tolist()
    run(buffer, a_stream(3, seed=1))
    assert state.rows.drawn.tolist() == drawn


def test_settings_may_change_between_save_and_restore(tmp_path: Path) -> None:
    buffer = StreamingBuffer(SETTINGS, seed=0)
    run(buffer, a_stream(20))
    save_buffer(buffer.state(), tmp_path / "buffer.parquet")
    smaller = StreamingBuffer(SelectionConfig(keep_ratio=0.5, capacity=5, max_all_negative=1), seed=0)
    smaller.restore(load_buffer(tmp_path / "buffer.parquet"))
    assert smaller.held == 5


WRITER = """
import sys
from pathlib import Path
from selection.buffer import StreamingBuffer
from selection.rows import load_buffer, save_buffer
from tests.selection.test_buffer_files import SETTINGS, a_stream
buffer = StreamingBuffer(SETTINGS, seed=0)
for batch, scores in a_stream(1000):
    buffer.offer(batch, scores)
    save_buffer(buffer.state(), Path(sys.argv[1]))
    print(buffer.seen, flush=True)
"""


@pytest.mark.slow
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    """A process that saves without pause is killed at no particular moment: the file holds its last word, or more."""
    path = tmp_path / "buffer.parquet"
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        time.sleep(0.05 + np.random.default_rng().random() / 10)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = int([str(acknowledged), *writer.stdout.read().split("\n")[:-1]][-1])
        writer.wait()
        restored = StreamingBuffer(SETTINGS, seed=0)
        restored.restore(load_buffer(path))
        assert restored.seen >= acknowledged > 0


def test_damaged_and_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "buffer.parquet"
    with pytest.raises(ValueError, match=r"buffer.parquet: no such file"):
        load_buffer(path)
    buffer = StreamingBuffer(SETTINGS, seed=0)
    run(buffer, a_stream(5))
    save_buffer(buffer.state(), path)
    whole = path.read_bytes()

    for size in (0, 1, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(
            ValueError, match=r"buffer.parquet: holds no saved buffer: truncated, damaged or not Parquet"
        ):
            load_buffer(path)
    path.write_text("not Parquet at all")
    with pytest.raises(ValueError, match=r"buffer.parquet: holds no saved buffer"):
        load_buffer(path)
    pq.write_table(pa.table({"number": [1, 2]}), path)
    with pytest.raises(ValueError, match=r"it has no column 'prompt_id' of type string"):
        load_buffer(path)
    write_table(annotated_table([an_annotated([1])]), path)
    with pytest.raises(ValueError, match=r"it has no column 'row_source'"):
        load_buffer(path)
    path.write_bytes(whole)
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    with pytest.raises(ValueError, match=r"buffer.parquet: holds no saved buffer: KeyError"):
        load_buffer(path)


def test_a_damaged_byte_is_refused_or_of_no_consequence(tmp_path: Path) -> None:
    path = tmp_path / "buffer.parquet"
    buffer = StreamingBuffer(SETTINGS, seed=0)
    run(buffer, a_stream(5))
    save_buffer(buffer.state(), path)
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 101):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        restored = StreamingBuffer(SETTINGS, seed=0)
        try:
            restored.restore(load_buffer(path))
        except ValueError as error:
            assert str(error).startswith(f"{path}: holds no saved buffer: ")
            refused += 1
        else:
            assert restored.statistics() == buffer.statistics()
            assert sorted(restored.kept_scores()) == sorted(buffer.kept_scores())
    assert refused > 0.5 * len(whole) / 101


def no_space(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there is still there, and nothing else."""
    path = tmp_path / "buffer.parquet"
    buffer = StreamingBuffer(SETTINGS, seed=0)
    run(buffer, a_stream(2))
    save_buffer(buffer.state(), path)
    run(buffer, a_stream(2, seed=1))
    with monkeypatch.context() as full, pytest.raises(OSError, match="No space left"):
        full.setattr(os, "fsync", no_space)
        save_buffer(buffer.state(), path)
    assert load_buffer(path).counters["seen"] == 20
    assert list(tmp_path.iterdir()) == [path]


def test_a_prompts_images_are_stored_once(tmp_path: Path) -> None:
    prompt = a_prompt()
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=1, capacity=50, max_all_negative=1), seed=0)
    buffer.offer([Annotated(prompt, a_rollout([1], tokens=[i]), some_counts([1])) for i in range(50)], np.ones(50))
    save_buffer(buffer.state(), tmp_path / "buffer.parquet")
    images = pq.read_table(tmp_path / "buffer.parquet").column("images")
    assert images.null_count == 49
    rows = load_buffer(tmp_path / "buffer.parquet").rows
    assert len({id(entry.prompt) for entry in rows.entry}) == 1
