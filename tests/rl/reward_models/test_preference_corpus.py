"""Preference pairs from files: all that is usable is learned from, and what is not is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from rewards.models.encoding import Encoder
from rewards.outcome.config import OutcomeModelConfig
from rewards.outcome.outcome_model import OutcomeModel
from rewards.outcome.preferences import Preference, PreferenceRecord, as_preference
from rl.config import Config
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.monitoring.console import Console
from rl.reward_models.warm_start import (
    find_preferences,
    index_preferences,
    is_held_out,
    learn_preferences,
    preference_batches,
)
from rl.tasks.grid import GridTask
from tests.fixtures.preference_pairs import write_preferences

CHECKPOINT = str(SHIPPED_POLICY)
COUNT = 12


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CHECKPOINT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_preferences(tmp_path, range(COUNT))


def test_a_pass_holds_every_pair_once_as_it_was_written(path: Path, encoder: Encoder) -> None:
    batches = list(preference_batches(index_preferences("key", [str(path)]), encoder, 5, "seed"))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    pairs = {pair.prompt.id: pair for batch in batches for pair in batch}
    for number, line in enumerate(path.read_text().splitlines()):
        record, image = json.loads(line), GridTask().prompt("train", number).images[0]
        written = PreferenceRecord(("",), record["prompt"], record["chosen"], record["rejected"])
        expected, found = as_preference(written, "", [image], encoder), pairs[f"{path}, line {number + 1}"]
        assert (found.chosen, found.rejected) == (expected.chosen, expected.rejected)
        assert found.prompt.question == record["prompt"]
        assert [picture.tobytes() for picture in found.prompt.images] == [image.tobytes()]


def test_the_seed_decides_the_order(path: Path, encoder: Encoder) -> None:
    corpus = index_preferences("key", [str(path)])
    orders = [
        [pair.prompt.id for batch in preference_batches(corpus, encoder, 5, *seed) for pair in batch]
        for seed in ((0, "a"), (0, "a"), (1, "a"), (0, "b"))
    ]
    assert orders[0] == orders[1] and orders[0] != orders[2] and orders[0] != orders[3]
    assert all(sorted(order) == sorted(orders[0]) for order in orders)


def test_parts_share_no_prompt_and_leave_nothing_out(tmp_path: Path, encoder: Encoder) -> None:
    path = write_preferences(tmp_path, range(40))
    path.write_text(path.read_text() * 2)  # every prompt twice
    corpus = index_preferences("key", [str(path)])

    def lines(part: str) -> list[int]:
        batches = preference_batches(corpus, encoder, 7, 0, part=part, held_out=0.3)  # type: ignore[arg-type]
        return sorted(int(pair.prompt.id.rpartition(" ")[2]) for batch in batches for pair in batch)

    training, held_out = lines("training"), lines("held out")
    assert sorted(training + held_out) == list(range(1, 81)) == lines("all")
    assert {(line - 1) % 40 for line in training}.isdisjoint((line - 1) % 40 for line in held_out)
    assert 0.1 < len(held_out) / 80 < 0.5


def test_the_share_held_out_is_what_was_asked_for() -> None:
    records = [PreferenceRecord((f"{i}.png",), "Same question?", "a", "b") for i in range(4000)]
    assert abs(sum(is_held_out(record, 0.2) for record in records) - 800) < 130, "5 standard deviations"


@dataclass
class Learned:
    """What a worker's answer would be, were there a worker."""

    metrics: dict[str, float]

    def result(self) -> dict[str, float]:
        return self.metrics


def test_the_outcome_model_learns_the_files(path: Path, encoder: Encoder, capsys: pytest.CaptureFixture[str]) -> None:
    model = OutcomeModel(CHECKPOINT, encoder, OutcomeModelConfig(learning_rate=2e-3, batch_size=6))
    losses: list[float] = []

    def start(batch: Sequence[Preference]) -> Learned:
        answer = Learned(model.train(batch))
        losses.append(answer.metrics["loss"])
        return answer

    settings = {"pairs": [str(path)], "pairs_epochs": 2, "batch_size": 6, "harvest": True}
    config = Config.model_validate({"outcome_model": settings})
    found = find_preferences(config)
    assert found is not None
    learn_preferences(config, found, encoder, start, Console())
    assert len(losses) == 4 == model.version
    assert f"12 records, 4 updates, outcome model loss {losses[0]:.3f} -> {losses[-1]:.3f}" in capsys.readouterr().out
    assert find_preferences(Config()) is None, "without files there is nothing to learn"


def test_pairs_of_no_use_are_left_out_counted_and_named(
    path: Path, encoder: Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = path.read_text().splitlines()
    whole = (path.parent / "0.png").read_bytes()
    (path.parent / "half.png").write_bytes(whole[: len(whole) // 2])
    for number, change in {
        3: {"image": "no_such.png"},
        5: {"chosen": ""},
        7: {"image": "half.png"},
        9: {"prompt": encoder.tokenizer.decode([min(encoder.placeholders)])},
    }.items():
        lines[number - 1] = json.dumps(json.loads(lines[number - 1]) | change)
    lines[1] = lines[1][:-5]
    lines[9] = ""
    path.write_text("\n".join(lines))
    taught: list[str] = []

    def start(batch: Sequence[Preference]) -> Learned:
        taught.extend(pair.prompt.id for pair in batch)
        return Learned({"loss": 0.5})

    config = Config.model_validate({"outcome_model": {"pairs": [str(path)], "harvest": True}})
    found = find_preferences(config)
    assert found is not None
    learn_preferences(config, found, encoder, start, Console())
    assert set(taught) == {f"{path}, line {number}" for number in (1, 4, 6, 8, 11, 12)}
    told = capsys.readouterr().out
    assert "left out 5 records: " in told and "and 2 more" in told
    for named in (
        f"{path}:2: not JSON",
        f"{path}:3: image {path.parent / 'no_such.png'} cannot",
        f"{path}:5: no chosen",
    ):
        assert named in told


def test_files_without_a_pair_are_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "folder").mkdir()
    for name, told in (
        ("none.jsonl", r"none\.jsonl cannot be read: No such file"),
        ("empty.jsonl", r"empty\.jsonl has no usable record: it is empty"),
        ("folder", r"folder has no \*\.jsonl files"),
    ):
        with pytest.raises(ConfigError, match=r"outcome_model\.pairs: .*" + told):
            index_preferences("outcome_model.pairs", [str(path), str(tmp_path / name)])
