"""The file of known verdicts: shared, and never a reason to stop."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest

from rewards.endpoints import answer_cache
from rewards.endpoints.answer_cache import AnswerCache


def opened(path: Path | None) -> AnswerCache:
    return AnswerCache(path, "verdicts", "first_wrong integer")


def test_a_verdict_is_there_for_whoever_opens_the_file_later(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "judge.sqlite"
    with opened(path) as cache:
        cache.put("a", 2)
        cache.put("b", 0)
        cache.put("a", 3)
        assert not cache.failed
    with opened(path) as cache:
        assert (cache.get("a"), cache.get("b"), cache.get("c")) == (3, 0, None)


def test_without_a_path_it_knows_nothing_and_that_is_no_failure() -> None:
    with opened(None) as cache:
        cache.put("a", 2)
        assert cache.get("a") is None and not cache.failed


def _fill(path: Path, first: int) -> None:
    answer_cache.WAIT = 120  # as long as a slow disk keeps the other one writing
    with opened(path) as cache:
        for number in range(first, first + 100):
            cache.put(str(number), number % 7)
        os._exit(int(cache.failed))


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_fill, args=(path, first)) for first in (0, 50)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    with opened(path) as cache:
        assert [cache.get(str(number)) for number in range(150)] == [number % 7 for number in range(150)]


def _make_unusable(kind: str, path: Path) -> sqlite3.Connection | None:
    """Gives the connection that holds the lock, if that is what is wrong."""
    if kind == "garbage":
        path.write_bytes(b"this is no database" * 500)
    elif kind == "folder":
        path.mkdir()
    elif kind == "other tables":
        with sqlite3.connect(path) as other:
            other.execute("create table verdicts (name text)")
        other.close()
    elif kind == "endless":
        with sqlite3.connect(path) as other:
            numbers = "with recursive n(key) as (select 1 union all select key + 1 from n)"
            other.execute(f"create view verdicts as {numbers} select key, 0 as first_wrong from n")
        other.close()
    elif kind == "link":
        with sqlite3.connect(path.with_name("another")) as other:
            other.execute("create table theirs (name text)")
        other.close()
        path.symlink_to("another")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "locked":
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("begin exclusive")
        return blocker
    return None


@pytest.mark.parametrize("kind", ["garbage", "folder", "other tables", "endless", "link", "pipe", "locked"])
def test_a_file_that_cannot_be_used_is_left_alone_and_said(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewards.endpoints.answer_cache.WAIT", 0.1)
    path = tmp_path / "judge.sqlite"
    blocker = _make_unusable(kind, path)
    before = path.read_bytes() if path.is_file() else b""
    with opened(path) as cache:
        assert cache.get("a") is None
        cache.put("a", 1)
        assert cache.get("a") is None
        assert cache.failed
    assert (path.read_bytes() if path.is_file() else b"") == before
    if blocker is not None:
        blocker.close()


def test_a_file_that_breaks_while_open(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    with opened(path) as cache:
        cache.put("a", 1)
        path.write_bytes(b"x" * path.stat().st_size)
        assert cache.get("a") is None and cache.failed


def test_tables_of_one_file_do_not_know_each_other(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    with opened(path) as verdicts, AnswerCache(path, "scores", "scores text") as scores:
        verdicts.put("a", 2)
        scores.put("a", "[0.5]")
        assert (verdicts.get("a"), scores.get("a"), scores.get("b")) == (2, "[0.5]", None)
