"""A file written in chunks: whatever a kill leaves, going on gives the file that would have been."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from rl.errors import ConfigError
from rl.files import chunked_file
from rl.files.chunked_file import ChunkedFile

IDENTITY = {"seed": 0, "task.name": "grid"}


@dataclass(frozen=True)
class Numbered:
    """A chunk's note."""

    number: int


CHUNKS = [b"one\ntwo\n", b"", "drei\nquatre é\n".encode(), b"five\n"]


def journal_of(path: Path) -> Path:
    return path.with_name(path.name + ".progress")


def go_on(path: Path) -> None:
    """Write the chunks that are not there yet."""
    file = ChunkedFile(path, IDENTITY, Numbered)
    for number in range(len(file.notes), len(CHUNKS)):
        file.append(CHUNKS[number], Numbered(number))
    assert file.notes == [Numbered(number) for number in range(len(CHUNKS))] and file.rest == 0
    file.close()


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "whole.jsonl"
    go_on(path)
    assert path.read_bytes() == b"".join(CHUNKS)
    return path


def test_from_every_point_at_which_the_file_can_end(whole: Path) -> None:
    content, journal = whole.read_bytes(), journal_of(whole).read_bytes()
    for end in range(len(content) + 1):
        whole.write_bytes(content[:end])
        journal_of(whole).write_bytes(journal)
        go_on(whole)
        assert (whole.read_bytes(), journal_of(whole).read_bytes()) == (content, journal), end


def test_from_every_point_at_which_the_journal_can_end(whole: Path) -> None:
    """The file is ahead of its journal if the writer was killed between the two."""
    content, journal = whole.read_bytes(), journal_of(whole).read_bytes()
    for end in range(journal.index(b"\n") + 1, len(journal) + 1):
        journal_of(whole).write_bytes(journal[:end])
        go_on(whole)
        assert (whole.read_bytes(), journal_of(whole).read_bytes()) == (content, journal), end
    for end in range(journal.index(b"\n") + 1):
        whole.write_bytes(b"")
        journal_of(whole).write_bytes(journal[:end])
        go_on(whole)
        assert (whole.read_bytes(), journal_of(whole).read_bytes()) == (content, journal), end


def test_a_half_written_chunk_is_seen_and_cut_off_only_when_another_follows(whole: Path) -> None:
    whole.write_bytes(whole.read_bytes() + b'{"half')
    file = ChunkedFile(whole, IDENTITY, Numbered)
    assert file.rest == 6 and whole.read_bytes().endswith(b'{"half')
    file.append(b"six\n", Numbered(4))
    assert whole.read_bytes() == b"".join(CHUNKS) + b"six\n"


def test_forgotten_chunks_are_written_anew(whole: Path) -> None:
    file = ChunkedFile(whole, IDENTITY, Numbered)
    file.forget(1)
    assert file.notes == [Numbered(0)]
    file.append(b"other\n", Numbered(9))
    file.close()
    assert whole.read_bytes() == CHUNKS[0] + b"other\n"
    assert ChunkedFile(whole, IDENTITY, Numbered).notes == [Numbered(0), Numbered(9)]


def test_a_file_of_another_making_is_refused_and_left_alone(whole: Path, tmp_path: Path) -> None:
    before = whole.read_bytes(), journal_of(whole).read_bytes()
    with pytest.raises(ConfigError, match=r"whole\.jsonl was made with seed 0, and this is 1; name another file"):
        ChunkedFile(whole, IDENTITY | {"seed": 1}, Numbered)
    with pytest.raises(ConfigError, match=r"made with more null, and this is true"):
        ChunkedFile(whole, IDENTITY | {"more": True}, Numbered)
    assert (whole.read_bytes(), journal_of(whole).read_bytes()) == before

    foreign = tmp_path / "foreign.jsonl"
    for left in (None, b"", b'{"seed": 0'):
        foreign.write_bytes(b"precious\n")
        if left is not None:
            journal_of(foreign).write_bytes(left)
        with pytest.raises(ConfigError, match=r"no foreign\.jsonl\.progress says what made it"):
            ChunkedFile(foreign, IDENTITY, Numbered)
        assert foreign.read_bytes() == b"precious\n"
        assert journal_of(foreign).exists() == (left is not None)


def test_a_changed_file_or_journal_is_refused(whole: Path) -> None:
    content, journal = whole.read_bytes(), journal_of(whole).read_bytes()
    whole.write_bytes(content.replace(b"drei", b"zwei"))
    with pytest.raises(ConfigError, match=r"was changed since it was written, in bytes 8 to 23"):
        ChunkedFile(whole, IDENTITY, Numbered)
    whole.write_bytes(content)
    for broken in (b"no json\n" + journal, journal.replace(b'{"bytes"', b"bytes"), b"[]\n" + journal, journal + b"5\n"):
        journal_of(whole).write_bytes(broken)
        with pytest.raises(ConfigError, match=r"whole\.jsonl\.progress"):
            ChunkedFile(whole, IDENTITY, Numbered)
    assert whole.read_bytes() == content


@pytest.mark.parametrize("note", [None, [], {}, {"number": "1"}, {"number": True}, {"number": None}, {"number": 1.5}])
def test_a_chunk_with_another_note_is_refused(whole: Path, note: object) -> None:
    """Its digest says that nobody has changed it since: another command, or a stranger, wrote it."""
    heading, *lines = journal_of(whole).read_bytes().splitlines(keepends=True)
    digest = chunked_file._digest(CHUNKS[0], note)  # type: ignore[arg-type]
    lines[0] = json.dumps({"bytes": len(CHUNKS[0]), "digest": digest, "note": note}).encode() + b"\n"
    journal_of(whole).write_bytes(heading + b"".join(lines))
    with pytest.raises(ConfigError, match=r"whole\.jsonl\.progress:2: is no line of such a journal"):
        ChunkedFile(whole, IDENTITY, Numbered)


@dataclass(frozen=True)
class Prompted:
    """A chunk's note."""

    prompts: int


def test_chunks_are_kept_up_to_the_first_that_is_not_as_planned(tmp_path: Path) -> None:
    file = ChunkedFile(tmp_path / "a.jsonl", IDENTITY, Prompted)
    for prompts in (4, 3, 4):
        file.append(b"line\n", Prompted(prompts))
    assert file.keep_planned(12, [4, 4, 4]) == 1 and file.notes == [Prompted(4)]


def test_an_empty_file_may_become_another_one(tmp_path: Path) -> None:
    """A command that failed before its first chunk can be changed and given again."""
    path = tmp_path / "empty.jsonl"
    ChunkedFile(path, IDENTITY | {"seed": 5}, Numbered).close()
    go_on(path)
    assert json.loads(journal_of(path).read_bytes().splitlines()[0]) == IDENTITY


def test_two_writers_and_unwritable_places_are_refused(whole: Path, tmp_path: Path) -> None:
    first = ChunkedFile(whole, IDENTITY, Numbered)
    with pytest.raises(ConfigError, match="being written by another process"):
        ChunkedFile(whole, IDENTITY, Numbered)
    first.close()
    ChunkedFile(whole, IDENTITY, Numbered).close()
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.jsonl cannot be written"):
        ChunkedFile(tmp_path / "folder.jsonl", IDENTITY, Numbered)
    journal_of(whole).unlink()
    os.mkfifo(journal_of(whole))  # to read it is to wait for ever
    with pytest.raises(ConfigError, match=r"cannot be written: it is no regular file"):
        ChunkedFile(whole, IDENTITY, Numbered)
    with pytest.raises(ConfigError, match=r"cannot be written: No such file"):
        ChunkedFile(tmp_path / "nowhere" / "a.jsonl", IDENTITY, Numbered)
    shutil.rmtree(tmp_path)
