"""Rollouts on disk: what was written is what is read, to the last bit."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rewards.files.record_files import (
    SCHEMA,
    annotated_rollouts,
    annotated_table,
    read_table,
    write_table,
)
from rewards.records import Annotated, Prompt, Rollout, StepCounts, StepSpan
from tests.fixtures.builders import (
    a_prompt,
    a_rollout,
    an_annotated,
    an_image,
    some_counts,
)

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


def assert_same_counts(found: StepCounts, expected: StepCounts) -> None:
    assert (found.correct.tolist(), found.sampled.tolist()) == (expected.correct.tolist(), expected.sampled.tolist())
    assert found.policy_version == expected.policy_version


@settings(max_examples=40)
@given(batches())
def test_what_is_read_is_what_was_written(batch: list[Annotated]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_table(annotated_table(batch), Path(folder) / "rollouts.parquet")
        found = annotated_rollouts(read_table(Path(folder) / "rollouts.parquet", SCHEMA, "rollouts"))
    assert len(found) == len(batch)
    for entry, expected in zip(found, batch, strict=True):
        assert entry.rollout == expected.rollout  # every field, floats exactly
        assert_same_prompt(entry.prompt, expected.prompt)
        assert_same_counts(entry.counts, expected.counts)


def test_fractional_counts() -> None:
    entry = Annotated(a_prompt(), a_rollout([1]), StepCounts(np.array([2.25]), np.array([8.5]), 0))
    (found,) = annotated_rollouts(annotated_table([entry]))
    assert (found.counts.correct.tolist(), found.counts.sampled.tolist()) == ([2.25], [8.5])


def test_images_are_in_the_first_row_of_their_prompt_alone() -> None:
    table = annotated_table([an_annotated([1]) for _ in range(5)])
    assert table.column("images").null_count == 4
    found = annotated_rollouts(table)
    assert len({id(entry.prompt) for entry in found}) == 1 and len(found[4].prompt.images) == 1


def test_images_of_other_modes_come_back_as_rgb() -> None:
    grey = an_image().convert("L")
    table = annotated_table([Annotated(a_prompt(images=[grey]), a_rollout([1]), some_counts([1]))])
    (image,) = annotated_rollouts(table)[0].prompt.images
    assert (image.mode, image.tobytes()) == ("RGB", grey.convert("RGB").tobytes())


def test_writing_again_replaces_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    path = tmp_path / "lr=0.1" / "rollouts.parquet"  # a folder's name is no column
    path.parent.mkdir()
    write_table(annotated_table([an_annotated([1, 0]), an_annotated([2])]), path)
    write_table(annotated_table([an_annotated([3])]), path)
    (entry,) = annotated_rollouts(read_table(path, SCHEMA, "rollouts"))
    assert entry.counts.correct.tolist() == [3]
    assert list(path.parent.iterdir()) == [path]
