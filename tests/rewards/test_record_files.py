"""Rollouts on disk: what was written is what is read, to the last bit."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rewards.record_files import PROMPTS, read_annotated, read_rollouts, write_annotated, write_rollouts
from rewards.records import Annotated, Prompt, Rollout, StepCounts, StepSpan
from tests.builders import a_prompt, a_rollout, an_annotated, an_image, some_counts

TEXT = st.text(max_size=8)  # any Unicode but surrogates, which no decoder gives
SIZES = st.tuples(st.integers(1, 4), st.integers(1, 4))


@st.composite
def images(draw: st.DrawFn) -> Image.Image:
    width, height = draw(SIZES)
    return Image.frombytes(
        "RGB", (width, height), draw(st.binary(min_size=3 * width * height, max_size=3 * width * height))
    )


@st.composite
def annotated(draw: st.DrawFn, prompts: list[Prompt]) -> Annotated:
    prompt = draw(st.sampled_from(prompts))
    tokens = draw(st.lists(st.integers(0, 2**40), max_size=6))
    floats = st.floats(allow_nan=False)
    cuts = sorted(draw(st.sets(st.integers(0, len(tokens)), max_size=4)))
    spans = tuple(StepSpan(start, end) for start, end in itertools.pairwise(cuts))
    rollout = Rollout(
        prompt_id=prompt.id,
        source=prompt.source,
        group=draw(st.integers(0, 2**40)),
        token_ids=tuple(tokens),
        logprobs=tuple(draw(floats) for _ in tokens),
        text=draw(TEXT),
        steps=spans,
        outcome=draw(floats),
        finish_reason=draw(st.sampled_from(["stop", "length"])),
        policy_version=draw(st.integers(0, 2**40)),
    )
    sampled = [draw(st.integers(0, 16)) for _ in spans]
    return Annotated(prompt, rollout, some_counts([draw(st.integers(0, n)) for n in sampled], sampled, version=-1))


@st.composite
def batches(draw: st.DrawFn) -> list[Annotated]:
    names = draw(st.lists(TEXT, min_size=1, max_size=3, unique=True))
    prompts = [
        Prompt(name, draw(TEXT), draw(TEXT), tuple(draw(st.lists(images(), max_size=2))), draw(TEXT)) for name in names
    ]
    return draw(st.lists(annotated(prompts), max_size=4))


def assert_same_prompt(found: Prompt, expected: Prompt) -> None:
    assert (found.id, found.source, found.question, found.answer) == (
        *(expected.id, expected.source, expected.question, expected.answer),
    )
    assert [(i.mode, i.size, i.tobytes()) for i in found.images] == [
        (i.mode, i.size, i.tobytes()) for i in expected.images
    ]


def assert_same_counts(found: StepCounts | None, expected: StepCounts) -> None:
    assert found is not None
    assert found.correct.dtype == found.sampled.dtype == np.int64
    assert (found.correct.tolist(), found.sampled.tolist()) == (expected.correct.tolist(), expected.sampled.tolist())
    assert found.policy_version == expected.policy_version


@settings(max_examples=40, deadline=None)
@given(batches())
def test_what_is_read_is_what_was_written(batch: list[Annotated]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_annotated(Path(folder), batch)
        found = read_annotated(Path(folder))
    assert len(found) == len(batch)
    for entry, expected in zip(found, batch, strict=True):
        assert entry.rollout == expected.rollout  # every field, floats exactly
        assert_same_prompt(entry.prompt, expected.prompt)
        assert_same_counts(entry.counts, expected.counts)


def test_rollouts_without_counts(tmp_path: Path) -> None:
    rollouts, prompts = [a_rollout([1, 1]), a_rollout([])], [a_prompt(), a_prompt()]
    write_rollouts(tmp_path, rollouts, prompts)
    found, of_each, counts = read_rollouts(tmp_path)
    assert found == rollouts
    assert [prompt.id for prompt in of_each] == ["prompt", "prompt"]
    assert counts == [None, None]
    assert read_annotated(tmp_path) == []


def test_an_image_is_stored_once(tmp_path: Path) -> None:
    write_annotated(tmp_path, [an_annotated([1]) for _ in range(5)])
    assert pq.read_table(tmp_path / PROMPTS).num_rows == 1


def test_images_of_other_modes_come_back_as_rgb(tmp_path: Path) -> None:
    grey = an_image().convert("L")
    write_rollouts(tmp_path, [a_rollout()], [a_prompt(images=[grey])])
    (image,) = read_rollouts(tmp_path)[1][0].images
    assert (image.mode, image.tobytes()) == ("RGB", grey.convert("RGB").tobytes())


def test_writing_again_replaces(tmp_path: Path) -> None:
    write_annotated(tmp_path / "new" / "folder", [an_annotated([1, 0]), an_annotated([2])])
    write_annotated(tmp_path / "new" / "folder", [an_annotated([3])])
    (entry,) = read_annotated(tmp_path / "new" / "folder")
    assert entry.counts.correct.tolist() == [3]


def test_a_folder_whose_name_looks_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    write_annotated(tmp_path / "lr=0.1", [an_annotated([1])])
    assert len(read_annotated(tmp_path / "lr=0.1")) == 1
