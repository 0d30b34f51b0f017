"""``sieve annotate``: corpora of the shipped policy, whole, cut off, gone on with, and refused."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from typer.testing import CliRunner

from rewards.annotation.visualprm import parse_record
from rl.annotating.corpus import (
    AnnotationOrder,
    CorpusTally,
    annotate,
    identity,
)
from rl.cli import app
from rl.config import Config
from rl.errors import ConfigError
from rl.monitoring.console import Console
from rl.tasks.grid import GridTask
from tests.fixtures.builders import an_image
from tests.fixtures.runs import Running, sieve

PROMPTS, SAMPLES = 5, 2
SMALL = [
    "engine.kind=hf",
    "learner.prompts=2",
    f"learner.samples={SAMPLES}",
    "annotation.continuations=2",
]


def small(**changes: Any) -> Config:
    """Two prompts a chunk, two rollouts a prompt, two continuations a step."""
    values: dict[str, dict[str, Any]] = {
        "engine": {"kind": "hf"},
        "learner": {"prompts": 2, "samples": SAMPLES},
        "annotation": {"continuations": 2},
    }
    for section, keys in changes.items():
        values[section] = values.get(section, {}) | keys if isinstance(keys, dict) else keys
    return Config.model_validate(values)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CorpusTally]:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    return path, annotate(small(), AnnotationOrder(path, PROMPTS), Console())


@pytest.fixture
def copied(corpus: tuple[Path, CorpusTally], tmp_path: Path) -> Path:
    """The corpus and its journal, to be changed; without images."""
    for file in corpus[0].parent.glob("corpus.jsonl*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / "corpus.jsonl"


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_rollout_is_labelled_and_written_with_its_image(corpus: tuple[Path, CorpusTally]) -> None:
    path, tally = corpus
    task, written = GridTask(), records(path)
    assert len(written) == PROMPTS * SAMPLES
    for place, record in enumerate(written):
        prompt = task.prompt("train", place // SAMPLES)
        assert (record["question"], record["answer"]) == (prompt.question, prompt.answer)
        with Image.open(path.parent / record["image"]) as image:
            assert image.convert("RGB").tobytes() == prompt.images[0].tobytes()
        lines = [line for line in record["response"].split("\n") if line and not line.startswith("Answer:")]
        assert [step["step"] for step in record["steps_with_score"]] == lines
        assert all(0 <= step["num_mc_correct"] <= step["num_mc_total"] <= 2 for step in record["steps_with_score"])
        assert record["num_mc_sequences"] == 2
    assert len(list((path.parent / "corpus_images").iterdir())) == PROMPTS

    labels = [[step["score"] > 0 for step in record["steps_with_score"]] for record in written]
    steps = sum(map(len, labels))
    assert (tally.prompts, tally.rollouts, tally.left_out, tally.steps) == (PROMPTS, len(written), 0, steps)
    assert tally.mixed == sum(0 < sum(steps) < len(steps) for steps in labels)
    assert tally.continuations == tally.fixed_continuations == 2 * steps
    assert tally.tokens == pytest.approx(tally.fixed_tokens) and tally.tokens > tally.continuations


@pytest.mark.slow
def test_going_on_gives_the_file_that_would_have_been(corpus: tuple[Path, CorpusTally], copied: Path) -> None:
    """Cut off in each of the three chunks, between them, and before the first."""
    whole, journal = copied.read_bytes(), copied.with_name("corpus.jsonl.progress").read_bytes()
    ends = [sum(map(len, whole.splitlines(keepends=True)[:count])) for count in (0, 4, 8)]
    for end in [*ends, *(end + 7 for end in ends), len(whole) - 1]:
        copied.write_bytes(whole[:end])
        copied.with_name("corpus.jsonl.progress").write_bytes(journal)
        tally = annotate(small(), AnnotationOrder(copied, PROMPTS), Console())
        assert copied.read_bytes() == whole, end
        assert tally.continuations == corpus[1].continuations and tally.rollouts == corpus[1].rollouts


def test_what_is_there_is_not_sampled_again(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert annotate(small(), AnnotationOrder(copied, PROMPTS), Console()).prompts == PROMPTS
    assert "engine" not in capsys.readouterr().out
    assert not (copied.parent / "corpus_images").exists()


@pytest.mark.slow
def test_a_corpus_can_grow(corpus: tuple[Path, CorpusTally], tmp_path: Path) -> None:
    """Its last chunk was a short one."""
    path = tmp_path / "corpus.jsonl"
    annotate(small(), AnnotationOrder(path, 3), Console())
    assert len(records(path)) == 3 * SAMPLES
    annotate(small(), AnnotationOrder(path, PROMPTS), Console())
    assert path.read_bytes() == corpus[0].read_bytes()
    with pytest.raises(ConfigError, match="has 5 prompts already, more than --prompts 4"):
        annotate(small(), AnnotationOrder(path, 4), Console())


def test_where_it_begins_decides_the_prompts_and_other_seeds_give_other_answers(
    corpus: tuple[Path, CorpusTally], tmp_path: Path
) -> None:
    later, heldout, seeded = (tmp_path / f"{name}.jsonl" for name in ("later", "heldout", "seeded"))
    annotate(small(), AnnotationOrder(later, 1, first=2), Console())
    annotate(small(), AnnotationOrder(heldout, 1, "heldout"), Console())
    annotate(small(seed=1), AnnotationOrder(seeded, 1), Console())
    assert records(later)[0]["question"] == GridTask().prompt("train", 2).question
    assert records(later)[0]["image"] == "later_images/000002.png"
    assert records(heldout)[0]["question"] == GridTask().prompt("heldout", 0).question
    first = records(corpus[0])[:SAMPLES]
    assert records(seeded)[0]["question"] == first[0]["question"]
    assert records(seeded)[0]["steps_with_score"] != first[0]["steps_with_score"]


@pytest.mark.parametrize(
    ("config", "order", "told"),
    [
        (small(seed=1), {}, "seed 0, and this is 1"),
        (small(learner={"samples": 4}), {}, "learner.samples 2, and this is 4"),
        (small(task={"difficulty": 3}), {}, "task.difficulty 2, and this is 3"),
        (small(annotation={"continuations": 4}), {}, "annotation.continuations 2, and this is 4"),
        (small(engine={"temperature": 0.5}), {}, "engine.temperature 1.0, and this is 0.5"),
        (small(), {"split": "heldout"}, '--split "train", and this is "heldout"'),
        (small(), {"first": 1}, "--first 0, and this is 1"),
    ],
)
def test_a_corpus_made_otherwise_is_refused(copied: Path, config: Config, order: dict[str, Any], told: str) -> None:
    before = copied.read_bytes()
    with pytest.raises(ConfigError, match=rf"corpus\.jsonl was made with {told}"):
        annotate(config, AnnotationOrder(copied, PROMPTS, **order), Console())
    assert copied.read_bytes() == before


def test_what_follows_a_finished_corpus_is_not_cut_off(copied: Path) -> None:
    copied.write_bytes(copied.read_bytes() + b'{"mine": 1}\n')
    with pytest.raises(ConfigError, match="12 bytes are not from this command"):
        annotate(small(), AnnotationOrder(copied, PROMPTS), Console())
    assert copied.read_bytes().endswith(b'{"mine": 1}\n')


def test_where_and_on_what_it_runs_is_no_part_of_the_identity() -> None:
    order = AnnotationOrder(Path("a.jsonl"), 3)
    moved = small(
        engine={"count": 2, "num_gpus": 1, "gpu_memory_utilization": 0.9}, annotation={"share": 0.5, "delay": 4}
    )
    assert identity(small(), order) == identity(moved, AnnotationOrder(Path("b.jsonl"), 7))


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """A files task of two rows: questions with two, and without images."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    # Paths are part of a prompt's id, and so of its seed: relative ones are the same in every run.
    monkeypatch.chdir(tmp_path)
    an_image(size=(84, 84)).save("red.png")

    def make(**changes: Any) -> Config:
        rows = [{"question": "Count: red = ?", "answer": "0", "images": ["red.png", "red.png"]}]
        rows += [{"question": "Count: red = ?", "answer": "0 or 1", "images": []}]
        for name in ("train", "heldout"):
            Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files = {f"{name}_files": [f"{name}.jsonl"] for name in ("train", "heldout")}
        return small(task={"name": "files", "verifier": "numeric"} | files, **changes)

    return make


@pytest.mark.slow
def test_prompts_from_files_with_two_images_and_with_none(
    own_files: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.jsonl"
    # The shipped policy answers such questions with anything; whatever it writes by the token limit is cut off.
    tally = annotate(
        own_files(engine={"kind": "hf", "max_completion_tokens": 60, "images_per_prompt": 2}),
        AnnotationOrder(path, 8),
        Console(),
    )
    written = records(path)
    assert tally.prompts == 8 and tally.rollouts == len(written) > 0
    said = " ".join(capsys.readouterr().out.split())
    assert "task.verifier numeric cannot read 2 of 4 reference answers whole" in said
    assert all(record["question"] == "Count: red = ?" for record in written)
    assert all(record["answer"] == ("0" if record["image"] else "0 or 1") for record in written)
    without, pairs = [[r for r in written if (r["image"] is None) == empty] for empty in (True, False)]
    assert without and pairs
    for record in pairs:
        first, second = record["image"]
        assert first.startswith("own_images/") and (first[-6:], second) == ("-0.png", first.replace("-0.", "-1."))
        assert parse_record(json.dumps(record).encode()).images == (first, second)
        with Image.open(tmp_path / first) as image:
            assert image.tobytes() == an_image(size=(84, 84)).tobytes()


def test_rollouts_without_any_label_are_counted_and_not_written(tmp_path: Path) -> None:
    """With so few tokens no continuation comes to its end."""
    config = small(engine={"kind": "hf", "max_completion_tokens": 3})
    tally = annotate(config, AnnotationOrder(tmp_path / "short.jsonl", 3), Console())
    assert (tally.rollouts, tally.left_out, tally.steps) == (0, 3 * SAMPLES, 0)
    assert (tmp_path / "short.jsonl").read_bytes() == b""


@pytest.mark.slow
def test_a_budget_that_saves_shows_what_it_saved(tmp_path: Path) -> None:
    config = small(annotation={"budget": "first_success", "first_error": "stop", "continuations": 4})
    tally = annotate(config, AnnotationOrder(tmp_path / "cheap.jsonl", 4), Console())
    assert tally.continuations < tally.fixed_continuations and tally.tokens < tally.fixed_tokens
    counts = [
        [(step["num_mc_correct"], step["num_mc_total"]) for step in record["steps_with_score"]]
        for record in records(tmp_path / "cheap.jsonl")
    ]
    assert any(pair == (1, 1) for pairs in counts for pair in pairs)
    for pairs in counts:
        first_error = next((place for place, (right, _) in enumerate(pairs) if right == 0), len(pairs))
        assert all(pair == (0, 0) for pair in pairs[first_error + 1 :])
    assert tally.missing == sum(total == 0 for pairs in counts for _, total in pairs) > 0


@pytest.mark.slow
def test_a_triage_writes_the_rollouts_that_it_chose(tmp_path: Path) -> None:
    config = small(
        learner={"prompts": 4, "samples": 4},
        annotation={"budget": "triage", "triage_ratio": 0.25, "probe": 1, "continuations": 4},
    )
    tally = annotate(config, AnnotationOrder(tmp_path / "triage.jsonl", 4), Console())
    assert (tally.rollouts, tally.left_out) == (4, 12), "one of the four of each source"
    assert tally.continuations < tally.fixed_continuations / 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no_such.yaml", "-o", "a.jsonl", "--prompts", "1"], ["no_such.yaml"]),
        (["config.yaml", "learner.lr=1", "-o", "a.jsonl", "--prompts", "1"], ["learner.lr", "no such key"]),
        (["config.yaml", "-o", "a.jsonl"], ["--prompts N"]),
        (["config.yaml", "--prompts", "1"], ["-o OUT.jsonl"]),
        (["config.yaml", "-o", "a.jsonl", "--prompts", "0"], ["--prompts 0", "1 to 10,000,000"]),
        (["config.yaml", "-o", "a.jsonl", "--prompts", "1", "--first", "-1"], ["--first -1", "0 or more"]),
        (["config.yaml", "-o", "a.jsonl", "--prompts", "1", "--split", "test"], ["'test'", "train, heldout"]),
        (["config.yaml", "-o", "a.txt", "--prompts", "1"], ["a.txt", ".jsonl"]),
        (["config.yaml", "-o", "no/a.jsonl", "--prompts", "1"], ["no/a.jsonl", "no folder no"]),
        (["config.yaml", "-o", "folder.jsonl", "--prompts", "1"], ["folder.jsonl cannot be written"]),
        (["config.yaml", "-o", "foreign.jsonl", "--prompts", "1"], ["foreign.jsonl is there already"]),
        (["config.yaml", "task.verifier=psychic", "-o", "a.jsonl", "--prompts", "1"], ["task.verifier", "'psychic'"]),
        (["config.yaml", "policy.checkpoint=/no", "-o", "a.jsonl", "--prompts", "1"], ["policy.checkpoint", "/no"]),
        (
            ["config.yaml", "annotation.budget=triage", "annotation.triage_by=mprm", "-o", "a.jsonl", "--prompts", "1"],
            ["annotation.triage_by", "counts"],
        ),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("engine: {kind: hf}\n")
    Path("folder.jsonl").mkdir()
    Path("foreign.jsonl").write_text("precious\n")
    result = CliRunner().invoke(app, ["annotate", *arguments])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr
    assert Path("foreign.jsonl").read_text() == "precious\n"


@pytest.mark.slow
def test_killed_and_given_again_it_ends_with_the_same_bytes(corpus: tuple[Path, CorpusTally], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}\n")
    path = tmp_path / "corpus.jsonl"
    command = ["annotate", tmp_path / "config.yaml", *SMALL, "-o", path, "--prompts", PROMPTS]
    running = Running(*command)
    running.wait_for("prompts 2/5")
    os.kill(running.pid, signal.SIGKILL)
    assert running.end()[0] == -signal.SIGKILL
    assert len(records(path)) < PROMPTS * SAMPLES
    again = sieve(*command)
    assert again.returncode == 0, again.stderr
    assert path.read_bytes() == corpus[0].read_bytes()
    assert "2 of 5 prompts already" in again.stdout or "4 of 5 prompts already" in again.stdout
    for told in (f"corpus   {PROMPTS} prompts, {PROMPTS * SAMPLES} rollouts", "continuations", f"select {path}"):
        assert told in again.stdout
    chosen = tmp_path / "corpus_chosen.jsonl"
    selected = sieve("select", path, "--ratio", 0.5, "-o", chosen)
    assert selected.returncode == 0, selected.stderr
    assert len(records(chosen)) == PROMPTS * SAMPLES // 2
