"""Preference pairs: what a line may say, what is harvested, and what is kept."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.files.json_records import UnusableRecordError
from rewards.models.encoding import Encoder
from rewards.outcome.preference_files import load_preferences, save_preferences
from rewards.outcome.preferences import (
    Preference,
    PreferenceRecord,
    RecentPreferences,
    as_preference,
    harvest,
    pair_accuracy,
    parse_preference,
)
from rl.files.named_checkpoint import SHIPPED_POLICY
from tests.fixtures.builders import a_prompt, a_rollout, an_image

LINE: dict[str, Any] = {"image": "a.png", "prompt": "How many?", "chosen": "Two.", "rejected": "Three."}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(SHIPPED_POLICY))


def line(**changes: Any) -> bytes:
    return json.dumps(LINE | changes).encode()


@pytest.mark.parametrize(
    ("image", "paths"), [("a.png", ("a.png",)), (["a.png", "b.png"], ("a.png", "b.png")), (None, ()), ([], ())]
)
def test_a_line_says_what_was_preferred(image: object, paths: tuple[str, ...]) -> None:
    assert parse_preference(line(image=image)) == PreferenceRecord(paths, "How many?", "Two.", "Three.")


def test_an_image_may_be_missing() -> None:
    assert parse_preference(json.dumps({k: v for k, v in LINE.items() if k != "image"}).encode()).images == ()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b'{"image": ', "not JSON: Expecting value"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "not a JSON object"),
        (line(image=3), "image is not a path"),
        (line(image=["a.png", ""]), "image is not a path"),
        (line(prompt=""), "no prompt"),
        (line(prompt=7), "no prompt"),
        (line(chosen=" \n"), "no chosen"),
        (line(rejected=None), "no rejected"),
        (line(rejected="Two."), "chosen and rejected are the same"),
    ],
)
def test_a_line_of_no_use_is_refused_with_the_reason(broken: bytes, reason: str) -> None:
    with pytest.raises(UnusableRecordError, match=f"^{reason}"):
        parse_preference(broken)


@given(st.binary(max_size=40) | st.dictionaries(st.sampled_from([*LINE, "x"]), st.none() | st.integers()))
def test_no_line_ends_in_anything_else(content: bytes | dict[str, Any]) -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(UnusableRecordError):
        parse_preference(raw)


def test_both_answers_end_as_a_finished_rollout_does(encoder: Encoder) -> None:
    record = PreferenceRecord(("a.png",), "<image>\nTotal: red * 2 = ?", "Answer: 2", "Answer: 3")
    pair = as_preference(record, "file:1", [an_image()], encoder)
    assert pair.prompt.id == "file:1" and pair.prompt.question == "Total: red * 2 = ?"
    assert pair.chosen == (*encoder.tokens("Answer: 2"), encoder.end_token)
    assert pair.rejected == (*encoder.tokens("Answer: 3"), encoder.end_token)


def test_text_that_stands_for_an_image_is_refused(encoder: Encoder) -> None:
    placeholder = encoder.tokenizer.decode([min(encoder.placeholders)])
    for record in (
        PreferenceRecord((), f"What is {placeholder}?", "Answer: 2", "Answer: 3"),
        PreferenceRecord((), "What?", f"Answer: {placeholder}", "Answer: 3"),
        PreferenceRecord((), "What?", "Answer: 2", f"Answer: {placeholder}"),
    ):
        with pytest.raises(UnusableRecordError, match="placeholder"):
            as_preference(record, "file:1", [], encoder)


OUTCOMES = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=6), min_size=1, max_size=5)


@given(OUTCOMES, st.integers(1, 12), st.integers(0, 3))
def test_siblings_are_paired_right_against_wrong(outcomes: list[list[float]], per_group: int, seed: int) -> None:
    rollouts = [
        a_rollout(outcome=outcome, group=group, prompt=f"p{group}", tokens=(group, place))
        for group, siblings in enumerate(outcomes)
        for place, outcome in enumerate(siblings)
    ]
    prompts = [a_prompt(rollout.prompt_id) for rollout in rollouts]
    pairs = harvest(prompts, rollouts, per_group, np.random.default_rng(seed))
    assert pairs == harvest(prompts, rollouts, per_group, np.random.default_rng(seed))
    for group, siblings in enumerate(outcomes):
        of_group = [(pair.chosen[1], pair.rejected[1]) for pair in pairs if pair.chosen[0] == group]
        right = [place for place, outcome in enumerate(siblings) if outcome == 1.0]
        wrong = [place for place, outcome in enumerate(siblings) if outcome == 0.0]
        possible = set(product(right, wrong))
        assert set(of_group) <= possible
        assert len(of_group) == len(set(of_group)) == min(per_group, len(possible))
    assert all(pair.chosen[0] == pair.rejected[0] == int(pair.prompt.id[1:]) for pair in pairs)


def test_every_pair_of_a_group_has_the_same_chance() -> None:
    rollouts = [a_rollout(outcome=float(place < 2), tokens=(place,)) for place in range(5)]
    generator = np.random.default_rng(0)
    drawn = [harvest([a_prompt()] * 5, rollouts, 1, generator)[0] for _ in range(3000)]
    counts = np.unique([pair.chosen + pair.rejected for pair in drawn], axis=0, return_counts=True)[1]
    assert len(counts) == 6 and abs(counts - 500).max() < 100, "about 5 standard deviations"


def some_pairs(count: int) -> list[Preference]:
    return [Preference(a_prompt(f"p{i // 2}"), (i, 1), (i, 2)) for i in range(count)]


def test_the_newest_pairs_are_kept_and_drawn_without_repetition() -> None:
    pairs, recent = some_pairs(10), RecentPreferences(4)
    recent.add(pairs[:3])
    recent.add(pairs[3:])
    assert len(recent) == 4 and recent.pairs() == pairs[6:]
    drawn = recent.draw(3, np.random.default_rng(0))
    assert drawn == recent.draw(3, np.random.default_rng(0)) and len({pair.chosen for pair in drawn}) == 3
    everything = recent.draw(99, np.random.default_rng(1))
    assert sorted(pair.chosen for pair in everything) == [pair.chosen for pair in pairs[6:]]
    assert RecentPreferences(4).draw(3, np.random.default_rng(0)) == []


def test_kept_pairs_survive_a_file(tmp_path: Path) -> None:
    pairs = some_pairs(5)
    save_preferences(pairs, tmp_path / "pairs.parquet")
    back = load_preferences(tmp_path / "pairs.parquet")
    assert [(pair.chosen, pair.rejected, pair.prompt.id, pair.prompt.answer) for pair in back] == [
        (pair.chosen, pair.rejected, pair.prompt.id, pair.prompt.answer) for pair in pairs
    ]
    for read, pair in zip(back, pairs, strict=True):
        assert [image.tobytes() for image in read.prompt.images] == [image.tobytes() for image in pair.prompt.images]
    stored = pq.read_table(tmp_path / "pairs.parquet").column("images").to_pylist()
    assert [images is not None for images in stored] == [True, False, True, False, True]
    save_preferences([], tmp_path / "none.parquet")
    assert load_preferences(tmp_path / "none.parquet") == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    with pytest.raises(ValueError, match=r"pairs\.parquet: no such file; it should hold preference pairs"):
        load_preferences(path)
    save_preferences(some_pairs(5), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"pairs\.parquet: holds no preference pairs"):
        load_preferences(path)


def test_ties_count_half() -> None:
    assert pair_accuracy(np.array([0.1, 0.0, -3.0, 0.0])) == 0.5
    assert pair_accuracy(np.array([0.1, 2.0, 3.0])) == 1.0
