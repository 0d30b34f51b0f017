"""Readers of files that were right, and in which one thing was changed: read, or refused as they promise, in a line.

`tests.test_fuzz_readers` makes up whole files; here a reader gets past all of its first checks.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from shutil import copytree
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rewards.annotation.visualprm import as_annotated, parse_record
from rewards.files.json_records import UnusableRecordError
from rewards.measuring.process_benchmark import BENCHES, BenchmarkError, read_benchmark
from rewards.measuring.process_scores import read_scores
from rewards.models.encoding import Encoder
from rewards.process_model.config import MPRMConfig
from rewards.process_model.saved import MPRM_FILE, read_saved
from rl.config import Config, load_config
from rl.config.reading import YAMLTextError, read_yaml
from rl.errors import ConfigError, MixedGroupError, UnreadableRolloutsError
from rl.files.named_checkpoint import SHIPPED_POLICY, refuse_damaged
from rl.files.run_files import METRICS_FILE, SUMMARY_FILE
from rl.instruments.replay.measuring import CellResult
from rl.instruments.replay.stream import open_stream
from rl.instruments.report.page import report_page
from rl.instruments.report.rollouts import RolloutSample, sample_rollouts
from rl.instruments.report.runs import read_runs
from rl.instruments.study.arms import make_arms
from rl.instruments.study.results import RESULT_FILE, Finished, read_result, write_result
from rl.instruments.study.study_file import load_study
from rl.reward_models.lessons import BUFFER_FILE, HELD_BACK_FILE, Lessons
from rl.tasks.files import FileTask
from selection.offline.corpus import read_evidence, split
from selection.rows import METADATA_KEY, save_buffer
from tests.fixtures.builders import an_image
from tests.fixtures.corpus_files import some_record
from tests.fixtures.grid_benchmark import write_grid_benchmark
from tests.fixtures.report_runs import a_run
from tests.fixtures.table_engine import Table, a_stream, one_step
from tests.test_fuzz_readers import a_buffer

ROOT = Path(__file__).parents[1]
many = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
NUMBERS = [0, 1, -1, 2, 1.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**62, 10**40]
TEXTS = ["", "x", "x" * 3000, "2", "\ud800", "\x00", "\x1b[2J\nsieve: all is well", "<image>", "<|image_pad|>", "*a"]
PLACES = ["../../etc/passwd", "/dev/zero", "http://127.0.0.1:1/x", "file:///etc/passwd"]
OTHERS = [None, True, False, [], [None], [[]], [0] * 50, {}, {"a": None}]
ODD = st.sampled_from([*NUMBERS, *TEXTS, *PLACES, *OTHERS])


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """A value of JSON with one thing in it changed: something else in its place, gone, twice, or at another place."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 5)):
        place = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        copy: Any = value.copy()
        how = draw(st.sampled_from(["within", "within", "within", "gone", "again", "exchanged"]))
        if how == "within":
            copy[place] = draw(changed(value[place]))
        elif how == "gone":
            del copy[place]
        elif isinstance(copy, list):
            copy.insert(draw(st.integers(0, len(copy))), copy[place])
        else:
            other = draw(st.sampled_from(sorted(value)))
            copy[place], copy[other] = copy[other], copy[place]
        return copy
    return draw(ODD)


def as_lines(*contents: Any) -> bytes:
    return b"".join(json.dumps(content).encode() + b"\n" for content in contents)


def in_one_line(error: Exception) -> None:
    assert len(str(error)) < 5000 and "\n" not in str(error)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(SHIPPED_POLICY))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark and a picture, for all of them."""
    folder = tmp_path_factory.mktemp("files")
    write_grid_benchmark(folder, 3)
    an_image().save(folder / "red.png")
    return folder


ROW = {"question": "How many?", "answer": "4", "images": ["red.png"], "source": "counting", "choices": ["3", "4"]}


@many
@given(changed(ROW), st.sampled_from([".jsonl", ".json", ".parquet"]))
def test_rows(folder: Path, row: Any, kind: str) -> None:
    path = folder / f"rows{kind}"
    if kind == ".parquet":
        try:
            pq.write_table(pa.Table.from_pylist([ROW, row]), path)
        except (pa.ArrowException, ValueError, TypeError, AttributeError, OverflowError):
            assume(False)
    else:
        path.write_bytes(as_lines(ROW, row) if kind == ".jsonl" else as_lines([ROW, row]))
    try:
        task = FileTask([str(path)], [str(path)])
        for number in range(2):
            assert isinstance(task.prompt("train", number).question, str)
    except ValueError as error:
        in_one_line(error)
        assert str(path) in str(error)


@many
@given(changed(some_record(0.5, 1.0, num_mc_sequences=8, answer="4", response="3\n4")))
def test_corpora(folder: Path, encoder: Encoder, content: Any) -> None:
    with suppress(UnusableRecordError):
        as_annotated(parse_record(as_lines(content)), "name", [an_image()], encoder, "\n", closed=True)
    path = folder / "corpus.jsonl"
    path.write_bytes(as_lines(some_record(0.5), content, some_record(0.5, 0.0)))
    for counts in (False, True):
        for part in split(path, 0):
            read_evidence(part, counts)


LINE = {"data_source": "a", "problem": "p", "labels": [1, 0, -1], "scores": [0.9, 0.5, 0.1], "label": 2}


@many
@given(st.sampled_from(BENCHES), st.data())
def test_benchmarks_and_their_scores(folder: Path, bench: Any, data: st.DataObject) -> None:
    path = folder / "scores.jsonl"
    path.write_bytes(as_lines(LINE, data.draw(changed(LINE))))
    one = json.loads((folder / "test.jsonl").read_text().splitlines()[1])
    solution = folder / "solution.jsonl"
    other = {"id": "a", "problem": "How many?", "steps": ["3", "4"], "label": 1}
    solution.write_bytes(as_lines(data.draw(changed(one if bench == "visualprocessbench" else other))))
    for read, file in ((read_scores, path), (read_benchmark, solution)):
        try:
            assert read(bench, file)
        except BenchmarkError as error:
            in_one_line(error)
            assert str(file) in str(error)


QUICKSTART = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
STUDY = yaml.safe_load((ROOT / "configs" / "studies" / "selectors.yaml").read_text()) | {
    "config": str(ROOT / "configs" / "quickstart.yaml")
}


@many
@given(changed(QUICKSTART), changed(STUDY))
def test_configurations_and_studies(folder: Path, config: Any, study: Any) -> None:
    for content, name in ((config, "config.yaml"), (study, "study.yaml")):
        (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8", errors="surrogatepass")
    try:
        assert isinstance(load_config(folder / "config.yaml"), Config)
    except ConfigError as error:
        in_one_line(error)
    try:
        make_arms(load_study(folder / "study.yaml"))
    except ConfigError as error:
        in_one_line(error)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its recorded stream."""
    return a_run(tmp_path_factory.mktemp("reported") / "run", "steps=2")


@settings(many, max_examples=60)
@given(st.data())
def test_recorded_streams(
    run: Path, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("changed") / "run"
    copytree(run, place)
    path = place / "stream" / data.draw(st.sampled_from(["step-000001.parquet", "heldout-000002.parquet"]))
    table = pq.read_table(path)
    rows = table.to_pylist()
    row = data.draw(changed(rows[0]))
    try:
        pq.write_table(pa.Table.from_pylist([row, *rows[1:]], table.schema), path)
    except (pa.ArrowException, ValueError, TypeError, AttributeError, OverflowError):
        assume(False)
    stream = open_stream(place)
    try:
        stream.check(256, set(), encoder.check_question)
    except ConfigError as error:
        in_one_line(error)
        assert path.name in str(error)
        return
    assert all(stream.step(step) for step in stream.steps) and all(map(stream.heldout, stream.evaluations))
    assert sample_rollouts(read_runs([place]), 4).rollouts


@many
@given(st.data())
def test_measurements(run: Path, data: st.DataObject) -> None:
    for name in (METRICS_FILE, SUMMARY_FILE):
        before = (run / name).read_bytes()
        lines = [json.loads(line) for line in before.splitlines()]
        place = data.draw(st.integers(0, len(lines) - 1))
        lines[place] = data.draw(changed(lines[place]))
        try:
            (run / name).write_bytes(as_lines(*lines))
            (found,) = read_runs([run])
            assert report_page([found], RolloutSample([], [], [0])).startswith("<!")
        except ConfigError as error:
            in_one_line(error)
        finally:
            (run / name).write_bytes(before)


@many
@given(st.data())
def test_results_of_cells(tmp_path: Path, data: st.DataObject) -> None:
    result = CellResult([{"step": 1.0, "auc": 0.5}], {"auc": 0.5})
    write_result(tmp_path, Finished("a", "recipe", {"seed": 1}, 2.0, result))
    path = tmp_path / RESULT_FILE
    path.write_bytes(as_lines(data.draw(changed(json.loads(path.read_text())))))
    found = read_result(tmp_path)
    assert found is None or (found.seconds >= 0 and all("step" in row for row in found.result.curve))


@many
@given(st.data())
def test_buffers(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / BUFFER_FILE
    save_buffer(a_buffer().state(), path)
    table = pq.read_table(path)
    rest = json.loads(table.schema.metadata[METADATA_KEY])
    if data.draw(st.booleans()):
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(data.draw(changed(rest))).encode()})
    else:
        rows = table.to_pylist()
        try:
            changed_rows = [data.draw(changed(rows[0])), *rows[1:]]
            table = pa.Table.from_pylist(changed_rows, table.schema)
        except (pa.ArrowException, ValueError, TypeError, AttributeError, OverflowError):
            assume(False)
    pq.write_table(table, path)
    lessons = Lessons(Config())
    lessons.held_back.save(tmp_path / HELD_BACK_FILE)
    try:
        lessons.load(tmp_path)
        lessons.buffer.draw(2)
        assert lessons.buffer.statistics()["size"] >= 0
    except ValueError as error:
        in_one_line(error)
        assert str(path) in str(error)


SEGMENTS = {"segment_tokens": 3, "dynamic_sampling": "refill", "refill_rounds": 2}


@many
@given(st.data())
def test_rollouts_under_way(data: st.DataObject) -> None:
    engines = Table(1)
    stream = a_stream(engines, 2, **SEGMENTS)
    for _ in range(3):
        one_step(stream, engines)
    state = data.draw(changed(json.loads(json.dumps(stream.state()))))
    other = a_stream(engines, 2, **SEGMENTS)
    try:
        other.restore(state)
    except (ValueError, LookupError, TypeError, AttributeError, ConfigError):
        return  # `rl.checkpoints.checkpoint.Progress` says it in one line, as what follows
    assume(other.step == stream.step)
    with suppress(MixedGroupError, UnreadableRolloutsError):
        one_step(other, engines)


@many
@given(st.data())
def test_what_stands_beside_weights(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    place = tmp_path_factory.mktemp("checkpoint")
    for file in SHIPPED_POLICY.iterdir():
        (place / file.name).symlink_to(file)
    index = {"metadata": {"total_size": 3}, "weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}
    (place / "model.safetensors.index.json").write_bytes(as_lines(data.draw(changed(index))))
    with suppress(ConfigError):
        refuse_damaged("policy.checkpoint", place)


MPRM = {"version": 3, "checkpoint": "grid_policy", "settings": MPRMConfig().model_dump(mode="json")}


@many
@given(changed(MPRM))
def test_what_is_said_of_a_saved_reward_model(tmp_path: Path, content: Any) -> None:
    (tmp_path / MPRM_FILE).write_bytes(as_lines(content))
    try:
        assert read_saved(tmp_path).settings.keys() >= MPRMConfig().identity().keys()
    except ValueError as error:
        in_one_line(error)


@many
@given(changed({"steps": 3, "learner": {"samples": 4, "prompts": 2}}).map(json.dumps))
def test_json_is_yaml(text: str) -> None:
    with suppress(YAMLTextError):
        read_yaml(text)
