"""A folder that one process has, and what somebody else may have put into it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rewards.files.whole_file import opened_here, replacing
from rl.errors import ConfigError
from rl.files.folders import new_folder, only_one
from rl.monitoring.metrics_file import MetricsFile

Put = Callable[[Path, Path], object]
ODD: dict[str, Put] = {
    "a link": lambda place, other: place.symlink_to(other),
    "a link to nothing": lambda place, other: place.symlink_to(other.with_name("absent")),
    "a pipe": lambda place, other: os.mkfifo(place),
    "a device": lambda place, other: place.symlink_to("/dev/zero"),
}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A file of somebody's, somewhere else."""
    file = tmp_path / "other.txt"
    file.write_text("dear to somebody")
    return file


@pytest.mark.parametrize("put", ODD.values(), ids=ODD)
def test_what_is_no_file_of_its_own_is_neither_followed_nor_emptied_nor_waited_for(
    put: Put, other: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    put(folder / ".lock", other)
    with pytest.raises(ConfigError, match=r"\.lock cannot be written to: allowed is a regular file, and no link"):
        only_one(folder).__enter__()
    put(folder / "metrics.jsonl", other)
    for flags in (os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_RDWR):
        with pytest.raises(OSError, match="allowed is a regular file, and no link"):
            opened_here(str(folder / "metrics.jsonl"), flags)
    assert other.read_text() == "dear to somebody" and not other.with_name("absent").exists()


def test_a_lock_keeps_what_its_file_holds_and_a_second_process_out(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("x")
    with only_one(tmp_path), pytest.raises(ConfigError, match="in use by another process"):
        only_one(tmp_path).__enter__()
    assert (tmp_path / ".lock").read_text() == "x"


def test_a_second_process_that_makes_the_same_folder_is_refused_and_spoils_nothing(tmp_path: Path) -> None:
    folder, left = tmp_path / "model", tmp_path / ".model.partial"
    (left / "weights").mkdir(parents=True)  # of one that was killed
    with new_folder(folder) as partial:
        assert partial == left and not list(partial.iterdir())
        (partial / "whole").touch()
        with pytest.raises(ConfigError, match="is being made by another process"):
            new_folder(folder).__enter__()
    assert [path.name for path in folder.iterdir()] == ["whole"] and not left.exists()


def test_a_folder_that_cannot_be_finished_vanishes(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "model") as partial:
        (partial / "half").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_metrics_are_never_written_through_a_link(other: Path, tmp_path: Path) -> None:
    file = MetricsFile(tmp_path, -1, keep_evaluation=True)
    file.scalars(1, {"x": 1.0})
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to(other)
    with pytest.raises(OSError, match="no link"):
        file.scalars(2, {"x": 1.0})
    assert other.read_text() == "dear to somebody"


def test_a_file_that_is_replaced_is_not_written_through_a_link(other: Path, tmp_path: Path) -> None:
    target = tmp_path / "summary.json"
    target.symlink_to(other)
    for name in (".summary.json.partial", f".summary.json.{os.getpid()}.partial"):
        (tmp_path / name).symlink_to(other)
    with replacing(target) as partial:
        partial.write_text("{}")
    assert other.read_text() == "dear to somebody" and target.read_text() == "{}" and not target.is_symlink()


def test_what_one_that_was_killed_has_left_of_a_file_goes_with_the_next(tmp_path: Path) -> None:
    (left := tmp_path / ".chosen.jsonl.partial").write_text("half of it, and longer than what follows")
    for text in ("first", "second"):
        with replacing(tmp_path / "chosen.jsonl") as partial:
            assert partial == left
            partial.write_text(text)
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"chosen.jsonl": text}


def test_two_at_once_do_not_write_into_each_others_file(tmp_path: Path) -> None:
    target = tmp_path / "chosen.jsonl"
    with replacing(target) as first:
        first.write_text("half of")
        with replacing(target) as second:
            second.write_text("second")
        assert target.read_text() == "second"
        first.write_text("first")
    assert target.read_text() == "first" and list(tmp_path.iterdir()) == [target]


def test_a_hard_link_at_the_temporary_name_is_not_emptied(other: Path, tmp_path: Path) -> None:
    os.link(other, tmp_path / ".summary.json.partial")
    with replacing(tmp_path / "summary.json") as partial:
        partial.write_text("{}")
    assert other.read_text() == "dear to somebody" and (tmp_path / "summary.json").read_text() == "{}"
