"""Of somebody else's dataset tables are opened, its own ones, and nothing else: no archive, no pickle, no address."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict
from PIL import Image

from rl.tasks.tables import open_table

ROW = json.dumps({"question": "What?", "answer": "1"}) + "\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "train.jsonl").write_text(ROW)
    (tmp_path / "dataset").mkdir()
    return tmp_path / "dataset"


def refused(folder: Path, split: str = ":train") -> str:
    with pytest.raises(ValueError, match="cannot be loaded: ") as caught:
        open_table(f"{folder}{split}")
    said = str(caught.value)
    assert said.startswith(f"{folder}{split}: ") and "\n" not in said
    return said.partition("cannot be loaded: ")[2]


@pytest.mark.parametrize("pipe", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow", "../outside/pipe"])
def test_nobody_waits_for_a_pipe(pipe: str, folder: Path) -> None:
    Dataset.from_list([json.loads(ROW)]).save_to_disk(folder)
    if pipe.startswith(".."):
        state = json.loads((folder / "state.json").read_text())
        (folder / "state.json").write_text(json.dumps(state | {"_data_files": [{"filename": pipe}]}))
    else:
        (folder / pipe).unlink()
    os.mkfifo(folder / pipe)
    said = refused(folder, "")
    assert "neither a file nor a folder" in said or "lies outside" in said


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.sign),)


def archive(file: Path, sign: Path) -> None:
    with tarfile.open(file, "w") as tar:
        for name, content in (("0.json", b"{}"), ("0.pth", pickle.dumps(Trap(sign)))):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize("name", ["train.tar", "train.jsonl", "train.parquet"])
def test_nothing_is_unpacked_or_unpickled(name: str, folder: Path, tmp_path: Path) -> None:
    archive(folder / name, tmp_path / "sprung")
    (folder / "train.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    refused(folder)
    assert not (tmp_path / "sprung").exists()
    pickle.loads((folder / "train.pkl").read_bytes())
    assert (tmp_path / "sprung").exists(), "the trap works"


def test_a_zip_archive_is_refused_whatever_its_name(folder: Path) -> None:
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        archive.writestr("train.jsonl", ROW)
    assert "train.zip is among its files; allowed are .json, .jsonl, " in refused(folder)
    (folder / "train.zip").rename(folder / "train.jsonl")
    assert "it is a zip archive" in refused(folder)


@pytest.mark.parametrize("name", ["train.txt", "train.h5", "train.xml", "train.eval", "train.png", "train.pdf"])
def test_other_kinds_are_named_with_what_is_allowed(name: str, folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder / name, "PNG")
    assert f"{name} is among its files; allowed are .json, .jsonl, .ndjson, .csv, .tsv, .parquet, " in refused(folder)


@pytest.mark.parametrize("path", ["../outside/train.jsonl", "{outside}/train.jsonl", "../out*/*.jsonl"])
def test_a_card_names_no_file_outside(path: str, folder: Path, tmp_path: Path) -> None:
    write_card(folder / "README.md", path.format(outside=tmp_path / "outside"))
    assert "outside/train.jsonl lies outside of it" in refused(folder)


@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize(
    "path", ["http://127.0.0.1:9/x.jsonl", "hf://datasets/a/b/x.jsonl", "file:///x.jsonl", "zip://x.jsonl::/x.zip"]
)
def test_a_card_has_nobody_asked(card: str, path: str, folder: Path) -> None:
    (folder / "train.jsonl").write_text(ROW)
    write_card(folder / card, path)
    assert refused(folder) == f"its {card} names {path}; allowed are files of its own"


def write_card(file: Path, path: str) -> None:
    text = f"configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: '{path}'\n"
    file.write_text(f"---\n{text}---\n# A dataset\n" if file.suffix == ".md" else text)


def test_a_card_may_name_its_own_files_and_speak_of_others(folder: Path) -> None:
    (folder / "mine.jsonl").write_text(ROW)
    write_card(folder / "README.md", "mine.jsonl")
    with (folder / "README.md").open("a") as card:
        card.write("See https://example.org/x.jsonl and zip://a::b.\n")
    assert len(open_table(f"{folder}:train").rows) == 1


def test_links_lead_nowhere_but_in_the_hubs_cache(folder: Path, tmp_path: Path) -> None:
    (folder / "train.jsonl").symlink_to(tmp_path / "outside" / "train.jsonl")
    assert "lies outside of it" in refused(folder)
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "1a2b", tmp_path / "hub" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "3c4d").write_text(ROW)
    (snapshot / "train.jsonl").symlink_to("../../blobs/3c4d")
    assert len(open_table(f"{snapshot}:train").rows) == 1
    (snapshot / "train.jsonl").unlink()
    (snapshot / "train.jsonl").symlink_to(tmp_path / "outside" / "train.jsonl")
    assert "lies outside of it" in refused(snapshot)


def test_what_was_saved_names_no_file_outside(folder: Path, tmp_path: Path) -> None:
    mine, other = Dataset.from_list([json.loads(ROW)]), tmp_path / "outside"
    mine.save_to_disk(folder)
    mine.save_to_disk(other)
    assert len(open_table(str(folder)).rows) == 1
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"] = [{"filename": "../outside/data-00000-of-00001.arrow"}]
    (folder / "state.json").write_text(json.dumps(state))
    assert "data-00000-of-00001.arrow lies outside of it" in refused(folder, "")
    splits = tmp_path / "splits"
    DatasetDict({"train": mine}).save_to_disk(splits)
    assert len(open_table(f"{splits}:train").rows) == 1
    (splits / "dataset_dict.json").write_text('{"splits": ["../outside"]}')
    assert "data-00000-of-00001.arrow lies outside of it" in refused(splits, "")


def parquet(folder: Path) -> None:
    Dataset.from_list([json.loads(ROW)]).to_parquet(folder / "train.parquet")


def arrow(folder: Path) -> None:
    Dataset.from_list([json.loads(ROW)]).save_to_disk(folder / "saved")
    (folder / "saved" / "data-00000-of-00001.arrow").rename(folder / "train.arrow")


OWN: dict[str, Callable[[Path], object]] = {
    "jsonl": lambda folder: (folder / "train.jsonl").write_text(ROW),
    "json": lambda folder: (folder / "train.json").write_text(f"[{ROW}]"),
    "jsonl.gz": lambda folder: (folder / "train.jsonl.gz").write_bytes(gzip.compress(ROW.encode())),
    "csv": lambda folder: (folder / "train.csv").write_text("question,answer\nWhat?,1\n"),
    "tsv": lambda folder: (folder / "train.tsv").write_text("question\tanswer\nWhat?\t1\n"),
    "parquet": parquet,
    "arrow": arrow,
}


@pytest.mark.parametrize("kind", OWN)
def test_its_own_tables_are_read(kind: str, folder: Path) -> None:
    OWN[kind](folder)
    assert len(open_table(f"{folder}:train").rows) == 1
