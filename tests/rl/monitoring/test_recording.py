"""What a run records is what is read back; and nothing is in a stream twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rl.config import Config, load_config
from rl.errors import ConfigError
from rl.files.named_checkpoint import make_encoder
from rl.instruments.replay.stream import open_stream
from rl.monitoring.recording import (
    HELDOUT,
    IMAGES,
    STEP,
    STREAM,
    Recording,
    stream_files,
)
from rl.tasks.grid import GridTask
from rl.tasks.making import make_task
from tests.fixtures.recorded_streams import record_stream
from tests.fixtures.runs import SMOKE

SMALL = ["steps=4", "learner.prompts=3", "learner.samples=4", "evaluation.every=2", "evaluation.prompts=5"]


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(SMOKE, SMALL)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, config: Config) -> Path:
    return record_stream(tmp_path_factory.mktemp("recorded") / "run", config)


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(recorded, tmp_path / "run"))


def test_what_is_recorded_is_read_back(recorded: Path, config: Config) -> None:
    stream, task, encoder = open_stream(recorded), make_task(config), make_encoder(config)
    assert isinstance(task, GridTask)
    assert (stream.steps, stream.evaluations) == ((1, 2, 3, 4), (0, 2, 4))
    for step in stream.steps:
        rollouts = stream.step(step)
        assert len(rollouts) == 12 and sum(rollout.annotated for rollout in rollouts) == 6
        for place, found in enumerate(rollouts):
            prompt, rollout = found.entry.prompt, found.entry.rollout
            assert prompt == task.prompt("train", step * 3 + place // 4)
            assert rollout.steps == encoder.steps(rollout.token_ids) and rollout.policy_version == step - 1
            texts = [line for line in rollout.text.splitlines() if not line.startswith("Answer:")]
            truths = task.step_truth(prompt, texts)
            assert found.truth.tolist() == [truth.so_far for truth in truths]
            assert found.truth_own.tolist() == [truth.own for truth in truths]
            assert found.truth_kinds == tuple(truth.kind for truth in truths)
    held_out = stream.heldout(2)
    assert [found.entry.prompt.id for found in held_out] == [f"grid/heldout/{index}" for index in range(5)]
    assert not any(found.annotated or found.kept for found in held_out)
    assert len(stream.heldout(2, most=3)) == 3


def test_counts_are_what_the_continuations_say(recorded: Path, config: Config) -> None:
    labelled = [found for step in (1, 2, 3, 4) for found in open_stream(recorded).step(step) if found.annotated]
    assert any(sample.right is None for found in labelled for step in found.continuations for sample in step)
    for found in labelled:
        assert all(len(step) == config.annotation.continuations for step in found.continuations)
        assert all(sample.tokens > 0 for step in found.continuations for sample in step)
        finished = [[sample.right for sample in step if sample.right is not None] for step in found.continuations]
        assert found.entry.counts.correct.tolist() == [sum(step) for step in finished]
        assert found.entry.counts.sampled.tolist() == [len(step) for step in finished]


def test_each_image_is_stored_once(recorded: Path) -> None:
    named = {
        name
        for path in (recorded / STREAM).glob("*.parquet")
        for files in pq.read_table(path)["image_files"].to_pylist()
        for name in files
    }
    stored = {f"{IMAGES}/{path.name}" for path in (recorded / STREAM / IMAGES).iterdir()}
    assert named == stored and len(stored) == 4 * 3 + 5


def test_a_step_that_is_taken_again_forgets_what_came_after(run: Path, config: Config) -> None:
    folder = run / STREAM
    before = stream_files(folder)
    held_out = [(found.entry.prompt, found.entry.rollout, found.scores) for found in open_stream(run).heldout(2)]
    recording = Recording(folder, make_task(config), make_encoder(config).decode)
    recording.heldout(2, *map(list, zip(*held_out, strict=True)))  # type: ignore[arg-type]
    kept = [(0, HELDOUT), (1, STEP), (2, HELDOUT), (2, STEP)]
    assert list(stream_files(folder)) == kept and set(kept) < set(before)
    assert open_stream(run).heldout(2)[4].entry.rollout == held_out[4][1]


def test_nothing_is_begun_in_the_place_of_a_run_that_was_moved(run: Path, config: Config, tmp_path: Path) -> None:
    held_out = [(found.entry.prompt, found.entry.rollout, found.scores) for found in open_stream(run).heldout(2)]
    recording = Recording(tmp_path / "moved" / STREAM, make_task(config), make_encoder(config).decode)
    with pytest.raises(FileNotFoundError):
        recording.heldout(2, *map(list, zip(*held_out, strict=True)))  # type: ignore[arg-type]
    assert not (tmp_path / "moved").exists()


SPOILT: dict[str, tuple[str, object]] = {
    "outside": ("image_files", ["../../secret.png"]),
    "torn": ("truth", [True]),
    "no text": ("text", None),
    "no question": ("question", None),
    "no scores": ("scores", None),
    "a score missing": ("scores", [None]),
    "no score": ("scores", [float("nan")]),
    "no outcome": ("outcome", float("inf")),
    "no counts": ("correct", None),
    "impossible counts": ("correct", [1e308]),
    "impossible steps": ("step_ends", [-1]),
    "a kind too many": ("step_kinds", ["", "", "", "", "", "", ""]),
    "tokens gone": ("token_ids", []),
    "a step's text missing": ("step_texts", [None]),
}


def spoil(run: Path, how: str) -> None:
    stream = run / STREAM
    path = stream / "step-000002.parquet"
    if how == "gone":
        shutil.rmtree(stream)
    elif how == "gap":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif how == "foreign":
        pq.write_table(pa.table({"step": [2]}), path)
    elif how == "no image":
        shutil.rmtree(stream / IMAGES)
    else:
        table = pq.read_table(path)
        name, value = SPOILT[how]
        column = [value, *table[name].to_pylist()[1:]]
        place, field = table.schema.get_field_index(name), table.schema.field(name)
        pq.write_table(table.set_column(place, field, pa.array(column, field.type)), path)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("gone", ["holds no recorded stream", "record: true"]),
        ("gap", ["policy step 2 is missing"]),
        ("truncated", ["step-000002.parquet", "truncated, damaged or not Parquet"]),
        ("foreign", ["step-000002.parquet", "no column 'prompt_id'"]),
        ("no image", ["step-000002.parquet", IMAGES, "No such file"]),
        ("outside", ["step-000002.parquet", "'../../secret.png'", "allowed is images/"]),
        ("torn", ["step-000002.parquet: row 0: truth has 1 entries", "allowed is"]),
        ("no text", ["step-000002.parquet: row 0: text is missing"]),
        ("no question", ["step-000002.parquet: row 0: question is missing"]),
        ("no scores", ["step-000002.parquet: row 0: scores is missing"]),
        ("a score missing", ["step-000002.parquet: row 0: scores is missing, or a value in it"]),
        ("no score", ["step-000002.parquet: row 0: scores", "allowed"]),
        ("no outcome", ["step-000002.parquet: row 0: outcome is inf: allowed is a finite number"]),
        ("no counts", ["step-000002.parquet: row 0: correct is missing"]),
        ("impossible counts", ["step-000002.parquet: row 0: correct and sampled: allowed"]),
        ("impossible steps", ["step-000002.parquet: row 0: step_starts, step_ends, step_kinds: allowed"]),
        ("a kind too many", ["step-000002.parquet: row 0: step_starts, step_ends, step_kinds: allowed"]),
        ("tokens gone", ["step-000002.parquet: row 0: ", "token_ids"]),
        ("a step's text missing", ["step-000002.parquet: row 0: step_texts is missing"]),
    ],
)
def test_what_is_no_stream_is_refused_in_one_line(run: Path, how: str, words: list[str]) -> None:
    spoil(run, how)
    with pytest.raises(ConfigError) as caught:
        open_stream(run).step(2)
    message = str(caught.value)
    assert str(run) in message and "\n" not in message
    for word in words:
        assert word in message


def test_a_picture_that_links_outside_is_not_shown(run: Path, tmp_path: Path) -> None:
    picture = next((run / STREAM / IMAGES).iterdir())
    inside = picture.rename(picture.with_name("moved.png"))
    outside = shutil.copyfile(inside, tmp_path / "secret.png")
    picture.symlink_to(inside)
    assert read_all(run) > 0
    picture.unlink()
    picture.symlink_to(outside)
    with pytest.raises(ConfigError, match=f"row \\d+: image {IMAGES}/{picture.name} lies outside of "):
        read_all(run)


def read_all(run: Path) -> int:
    stream = open_stream(run)
    heldout = [len(stream.heldout(step)) for step in stream.evaluations]
    return sum(len(stream.step(step)) for step in stream.steps) + sum(heldout)
