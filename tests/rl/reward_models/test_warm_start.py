"""The MPRM's warm start from annotation files: it learns all that is usable, and says what is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.models.encoding import Encoder
from rewards.process_model.config import MPRMConfig
from rewards.process_model.labels import hard
from rewards.process_model.mprm import LIKELIHOOD_RATE, MPRM
from rewards.records import Annotated
from rl.annotating.corpus import AnnotationOrder, annotate
from rl.config import Config
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.monitoring.console import Console
from rl.reward_models.lessons import Lessons
from rl.reward_models.warm_start import batches, find_records, keep_in_buffer, warm_start
from rl.tasks.grid import GridTask
from rl.workers.pending import Here
from selection.config import SelectionConfig

pytestmark = pytest.mark.slow

CHECKPOINT = str(SHIPPED_POLICY)
PROMPTS, SAMPLES = 8, 4


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CHECKPOINT)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    config = {"engine": {"kind": "hf"}, "learner": {"samples": SAMPLES}, "annotation": {"continuations": 2}}
    annotate(Config.model_validate(config), AnnotationOrder(path, PROMPTS), Console())
    return path


def warm(*files: Path, **changes: Any) -> Config:
    return Config.model_validate({"mprm": {"warm_start": [str(file) for file in files], "batch_size": 5} | changes})


def lessons(config: Config, encoder: Encoder) -> list[list[Annotated]]:
    corpus = find_records(config)
    assert corpus is not None
    return list(batches(config, corpus, encoder))


def test_a_pass_holds_every_record_once_as_it_was_written(corpus: Path, encoder: Encoder) -> None:
    """Text, counts and picture of each, found by its line; the task itself says what the picture is."""
    taught = lessons(warm(corpus), encoder)
    assert [len(batch) for batch in taught] == [5] * 6 + [2]
    entries = {entry.prompt.id: entry for batch in taught for entry in batch}
    assert len(entries) == PROMPTS * SAMPLES
    task = GridTask()
    for number, line in enumerate(corpus.read_text().splitlines()):
        entry, record, prompt = (
            entries[f"{corpus}, line {number + 1}"],
            json.loads(line),
            task.prompt("train", number // 4),
        )
        assert entry.prompt.question == prompt.question
        assert [image.tobytes() for image in entry.prompt.images] == [prompt.images[0].tobytes()]
        written, tokens = record["steps_with_score"], entry.rollout.token_ids
        spans = [encoder.decode(tokens[span.start : span.end]).strip() for span in entry.rollout.steps]
        assert spans == [step["step"] for step in written]
        assert encoder.steps(tokens) == entry.rollout.steps
        assert record["response"].startswith(encoder.decode(tokens)), "what the policy wrote, up to its answer"
        assert entry.counts.correct.tolist() == [step["num_mc_correct"] for step in written]
        assert entry.counts.sampled.tolist() == [step["num_mc_total"] for step in written]


def test_passes_are_shuffled_by_the_seed(corpus: Path, encoder: Encoder) -> None:
    def order(config: Config) -> list[str]:
        return [entry.prompt.id for batch in lessons(config, encoder) for entry in batch]

    config = warm(corpus, warm_start_epochs=2)
    twice, count = order(config), PROMPTS * SAMPLES
    assert order(config) == twice
    first, second = twice[:count], twice[count:]
    assert sorted(first) == sorted(second) and first != second != sorted(second)
    assert order(config.model_copy(update={"seed": 1})) != twice


@dataclass
class Learned:
    """What a worker's answer would be, were there a worker."""

    metrics: dict[str, float]

    def result(self) -> dict[str, float]:
        return self.metrics


def test_the_mprm_learns_the_records(corpus: Path, encoder: Encoder, capsys: pytest.CaptureFixture[str]) -> None:
    config = warm(corpus, batch_size=32, warm_start_epochs=8, warm_start_learning_rate=1e-3)
    model = MPRM(CHECKPOINT, encoder, hard, MPRMConfig(likelihood=True, batch_size=32, learning_rate=1e-4))
    losses: list[float] = []
    rates: list[list[float]] = []

    def start(batch: Sequence[Annotated], rate: float) -> Learned:
        answer = Learned(model.train(batch, rate))
        losses.append(answer.metrics["loss"])
        rates.append([group["lr"] for group in model.optimizer.param_groups])
        return answer

    records = find_records(config)
    assert records is not None
    warm_start(config, records, encoder, start, Console())
    assert len(losses) == 8 and losses[-1] < losses[0] - 0.05
    told = f"32 records, 8 updates, MPRM loss {losses[0]:.3f} -> {losses[-1]:.3f}"
    assert told in capsys.readouterr().out
    own, likelihood = np.array(rates).T
    assert own == pytest.approx(np.linspace(1e-3, 1e-4, 8))
    assert likelihood == pytest.approx(np.minimum(LIKELIHOOD_RATE * own, 0.3))
    model.train([])
    assert model.optimizer.param_groups[0]["lr"] == 1e-4, "what comes after learns as the section says"


@pytest.mark.parametrize("selector", ["bis", "uncertain", "bis_visual"])
def test_the_records_enter_the_buffer_and_come_back_from_its_file(
    corpus: Path, encoder: Encoder, tmp_path: Path, selector: str
) -> None:
    """As a source of their own, chosen by the selector; a guard of groups sees none of them."""
    config = warm(corpus, guard_share=0.9).model_copy(
        update={"selection": SelectionConfig(selector=selector, keep_ratio=0.5, max_all_negative=1)}
    )
    records, mine = find_records(config), Lessons(config)
    assert records is not None
    model = Here(MPRM(CHECKPOINT, encoder, hard, MPRMConfig()))
    keep_in_buffer(config, records, encoder, mine, model)
    assert (mine.buffer.seen, len(mine.buffer), len(mine.held_back.entries())) == (32, 16, 0)
    everything = {entry.prompt.id: entry for batch in lessons(config, encoder) for entry in batch}
    for entry in mine.buffer.kept():
        assert entry.rollout.token_ids == everything[entry.prompt.id].rollout.token_ids
    mine.save(tmp_path)
    again = Lessons(config)
    again.load(tmp_path)
    assert [e.prompt.id for e in again.buffer.kept()] == [e.prompt.id for e in mine.buffer.kept()]


def changed(corpus: Path, target: Path, *replacements: tuple[int, Any]) -> Path:
    """The corpus with some lines, by number from 1 on, replaced, in another folder with the same images."""
    lines = corpus.read_text().splitlines()
    shutil.copytree(corpus.parent / "corpus_images", target.parent / "corpus_images", dirs_exist_ok=True)
    for number, change in replacements:
        content = json.loads(lines[number - 1])
        lines[number - 1] = json.dumps(content | change) if isinstance(change, dict) else change
    target.write_text("".join(line + "\n" for line in lines))
    return target


def test_records_of_no_use_are_left_out_counted_and_named(
    corpus: Path, encoder: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("no image")
    whole = next((corpus.parent / "corpus_images").iterdir()).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    path = changed(
        corpus,
        tmp_path / "broken.jsonl",
        (2, ""),
        (3, {"image": None}),
        (5, '{"image": "red'),
        (7, {"image": "no_such.png"}),
        (8, {"image": str(tmp_path / "text.png")}),
        (9, {"image": str(tmp_path / "half.png")}),
        (32, {"question_orig": encoder.tokenizer.decode([min(encoder.placeholders)])}),
    )
    config = warm(path, warm_start_epochs=2)
    records = find_records(config)
    assert records is not None and len(records) == 32 - 5
    taught: list[str] = []

    def start(batch: Sequence[Annotated], rate: float) -> Learned:
        taught.extend(entry.prompt.id for entry in batch)
        return Learned({"loss": 0.5})

    warm_start(config, records, encoder, start, Console())
    expected = {f"{path}, line {number}" for number in range(1, 33) if number not in (2, 3, 5, 7, 8, 9, 32)}
    assert len(taught) == 2 * len(expected) and set(taught) == expected
    warning, summary = capsys.readouterr().out.splitlines()
    assert "left out 6 records" in warning and "and 3 more" in warning
    for told in (
        f"{path}:3: no image",
        f"{path}:5: not JSON",
        f"{path}:7: image {tmp_path / 'no_such.png'} cannot be read: No",
    ):
        assert told in warning
    assert "25 records" in summary


def test_images_may_lie_elsewhere_and_a_folder_stands_for_its_files(
    corpus: Path, encoder: Encoder, tmp_path: Path
) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_bytes(corpus.read_bytes())
    (tmp_path / "notes.txt").write_text("not a record")
    config = warm(tmp_path, warm_start_images=str(corpus.parent))
    records = find_records(config)
    assert records is not None and records.files == (tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert sum(len(batch) for batch in batches(config, records, encoder)) == 2 * PROMPTS * SAMPLES
    with pytest.raises(ConfigError, match=r"a\.jsonl has no usable record: .*a\.jsonl:1: image .* and 29 more"):
        find_records(warm(tmp_path))


def test_files_that_teach_nothing_are_refused(corpus: Path, encoder: Encoder, tmp_path: Path) -> None:
    empty, folder = tmp_path / "empty.jsonl", tmp_path / "folder"
    empty.write_text("\n\n")
    folder.mkdir()
    for path, told in (
        (empty, r"mprm\.warm_start: .*empty\.jsonl has no usable record: it is empty"),
        (tmp_path / "none.jsonl", r"mprm\.warm_start: .*none\.jsonl cannot be read: No such file"),
        (folder, r"mprm\.warm_start: .*folder has no \*\.jsonl files"),
    ):
        with pytest.raises(ConfigError, match=told):
            find_records(warm(corpus, path))
    # That it is cut off shows only when the picture is read in full.
    whole = next((corpus.parent / "corpus_images").iterdir()).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    half = changed(corpus, tmp_path / "half.jsonl", *((number, {"image": "half.png"}) for number in range(1, 33)))
    with pytest.raises(
        ConfigError, match=r"half\.jsonl has no usable record: .*half\.jsonl:\d+: image .*half\.png cannot be read"
    ):
        lessons(warm(corpus, half), encoder)


def test_without_files_there_is_none() -> None:
    assert find_records(Config()) is None
