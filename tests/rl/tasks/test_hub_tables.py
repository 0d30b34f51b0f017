"""Tables of the `datasets` library: folders, saved datasets, splits and configs, and what is said without a network."""

from __future__ import annotations

import logging
from pathlib import Path

import datasets
import huggingface_hub
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Sequence, Value

from rl.tasks.files import FileTask
from tests.fixtures.builders import an_image

FEATURES = Features({"question": Value("string"), "answer": Value("string"), "images": Sequence(Image())})
CARD = """---
configs:
- config_name: Art
  data_files:
  - {split: validation, path: Art/validation-*}
  - {split: test, path: Art/test-*}
- config_name: Music
  data_files:
  - {split: test, path: Music/test-*}
---
# Questions
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows(name: str, count: int) -> Dataset:
    questions = [f"{name}{number}" for number in range(count)]
    columns = {"question": questions, "answer": questions, "images": [[an_image()]] * count}
    return Dataset.from_dict(columns, features=FEATURES)


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """A folder as the hub keeps a dataset of several configs."""
    folder = tmp_path / "owner" / "subjects"
    for config, split, count in (("Art", "validation", 4), ("Art", "test", 10), ("Music", "test", 3)):
        (folder / config).mkdir(parents=True, exist_ok=True)
        rows(f"{config}-{split}-", count).to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(CARD)
    return str(folder)


def asked(train: list[str], heldout: list[str], count: int) -> list[str]:
    task = FileTask(train, heldout)
    return [task.prompt("train", index).question for index in range(count)]


def test_configs_and_splits_of_a_folder(repository: str) -> None:
    train = [f"{repository}:Art:test[:2]", f"{repository}:Music:test"]
    task = FileTask(train, [f"{repository}:Art:validation"])
    prompts = [task.prompt("train", index) for index in range(6)]
    assert [prompt.question for prompt in prompts] == [
        "Art-test-0",
        "Art-test-1",
        "Music-test-0",
        "Music-test-1",
        "Music-test-2",
        "Art-test-0",
    ]
    assert [prompt.source for prompt in prompts[1:3]] == ["Art", "Music"]
    assert [prompt.id for prompt in prompts[1:3]] == [f"{train[0]}:1", f"{train[1]}:0"]
    assert prompts[0].images[0].tobytes() == an_image().tobytes()
    assert task.prompt("heldout", 3).question == "Art-validation-3"


def test_the_only_split_needs_no_name(repository: str, tmp_path: Path) -> None:
    rows("alone", 2).save_to_disk(tmp_path / "alone")
    assert asked([str(tmp_path / "alone")], [f"{repository}:Art:test"], 2) == ["alone0", "alone1"]


def test_the_folder_that_one_stands_in(repository: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    task = FileTask([".:Music:test"], [f"{repository}:Art:validation"])
    assert task.prompt("train", 0).id == ".:Music:test:0"
    assert refused(".:Music:test", f"{repository}:Music:test[:1]").startswith(".:Music:test: is in both ")


@pytest.mark.parametrize(
    ("split", "numbers"),
    [("train", "012345"), ("train[:2]", "01"), ("train[50%:]", "345"), ("train[-1:]+train[:1]", "50")],
)
def test_what_was_saved_to_disk(split: str, numbers: str, repository: str, tmp_path: Path) -> None:
    DatasetDict(train=rows("", 6), test=rows("test", 2)).save_to_disk(tmp_path / "several")
    rows("", 6).save_to_disk(tmp_path / "one")
    for folder in ("several", "one"):
        entry = f"{tmp_path / folder}:{split}"
        assert "".join(asked([entry], [f"{repository}:Music:test"], len(numbers))) == numbers
    assert FileTask([f"{tmp_path / 'several'}:test"], [entry]).sources == ("one", "several")


def refused(train: str, heldout: str) -> str:
    with pytest.raises(ValueError) as caught:
        FileTask([train], [heldout])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("selected", "said"),
    [
        ("Art:tset", "cannot be loaded: Unknown split \"tset\". Should be one of ['validation', 'test']."),
        ("Dance:test", "cannot be loaded: BuilderConfig 'Dance' not found. Available: ['Art', 'Music']"),
        ("test", "cannot be loaded: Config name is missing. Please pick one among the available configs: ['Art', "),
        ("Art:test[x:]", "cannot be loaded: Unrecognized instruction format: test[x:]"),
        ("Art:test[20:]", 'cannot be loaded: Instruction "test[20:]" corresponds to no data!'),
        (
            "Art:test:0",
            "not the name of a table; allowed: .jsonl, .json, .csv, .tsv, .parquet files, FOLDER[:CONFIG]:SPLIT, hub:",
        ),
        ("Art:", "not the name of a table; allowed: "),
    ],
)
def test_what_is_not_in_a_folder_is_named(selected: str, said: str, repository: str) -> None:
    entry = f"{repository}:{selected}"
    assert refused(entry, f"{repository}:Music:test").startswith(f"{entry}: {said}")


def test_several_splits_want_a_name(tmp_path: Path, repository: str) -> None:
    DatasetDict(train=rows("a", 1), test=rows("b", 1)).save_to_disk(tmp_path / "saved")
    assert "not the name of a table" in refused(f"{tmp_path / 'saved'}:Art:train", f"{repository}:Music:test")
    said = "cannot be loaded: no split is named; there are train, test"
    assert refused(str(tmp_path / "saved"), f"{repository}:Music:test") == f"{tmp_path / 'saved'}: {said}"


@pytest.mark.parametrize(
    ("train", "heldout", "shared"),
    [
        ("test", "test", True),
        ("test", "test[5:]", True),
        ("validation+test[:3]", "test[2:4]", True),
        ("test[:20%]", "test[20%:]", False),
        ("test", "validation", False),
    ],
)
def test_no_row_is_in_both_splits(train: str, heldout: str, shared: bool, repository: str) -> None:
    mine, theirs = f"{repository}:Art:{train}", f"{repository}/:Art:{heldout}"
    if shared:
        message = refused(mine, theirs)
        assert message == f"{mine}: is in both task.train_files and task.heldout_files, as {theirs}"
    else:
        assert FileTask([mine], [theirs]).sources == ("Art",)


@pytest.mark.parametrize(
    "name",
    ["a/b@:train", "/b:train", "a/:train", "a/b::train", "a/b:", "a/b@main:", "@main:train", "b:train", ":train", ""],
)
def test_a_name_of_the_hub_has_all_its_parts(name: str, repository: str) -> None:
    entry = f"hub:{name}"
    assert refused(entry, f"{repository}:Music:test").startswith(f"{entry}: not the name of a table; allowed: ")


def test_without_the_network_the_hub_is_missed_in_one_line(
    repository: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    entry = "hub:owner/questions@main:Art:test[:100]"
    assert refused(entry, f"{repository}:Music:test").startswith(f"{entry}: cannot be loaded: ")
    assert "owner/questions" in refused(entry, f"{repository}:Music:test").removeprefix(entry)
    assert capfd.readouterr().err == ""


def test_a_hub_that_does_not_answer_is_missed_in_one_line(
    repository: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The library tries again and again, and would log each time."""
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pauses: list[float] = []
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", pauses.append)
    entry = "hub:owner/questions:train"
    assert refused(entry, f"{repository}:Music:test").startswith(f"{entry}: cannot be loaded: Couldn't reach ")
    assert pauses and capfd.readouterr().err == ""


def test_nothing_is_said_while_tables_load(repository: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows("file", 3).to_parquet(tmp_path / "file.parquet")
    rows("file", 3).remove_columns(["answer", "images"]).to_json(tmp_path / "file.jsonl")
    (tmp_path / "damaged.jsonl").write_text('{"question": 1}\n{"question"')
    capfd.readouterr()
    asked([f"{repository}:Art:test", str(tmp_path / "file.parquet")], [f"{repository}:Music:test"], 2)
    refused(str(tmp_path / "damaged.jsonl"), f"{repository}:Music:test")
    refused(str(tmp_path / "file.jsonl"), f"{repository}:Music:test")
    assert capfd.readouterr() == ("", "")


def test_what_was_silenced_speaks_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("datasets").level
    refused(str(tmp_path / "missing.jsonl"), str(tmp_path / "missing.jsonl"))
    assert logging.getLogger("datasets").level == level
    bars = datasets.are_progress_bars_disabled(), huggingface_hub.utils.are_progress_bars_disabled()
    for bar in datasets.utils.tqdm(range(3)), huggingface_hub.utils.tqdm(range(3)):
        list(bar)
    assert capfd.readouterr().err.count("3/3") == bars.count(False)
