"""A file that grows by whole chunks, and can be gone on with after a kill at any moment."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence, Set
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, Generic, Protocol, TypeVar

import msgspec

from rewards.files.json_text import read_json
from rewards.files.whole_file import content_of, opened_here
from rl.errors import ConfigError

JOURNAL_SUFFIX = ".progress"
CHUNK = {"bytes", "digest", "note"}
Note = TypeVar("Note")


class OfPrompts(Protocol):
    """A note that says how many prompts its chunk has."""

    @property
    def prompts(self) -> int: ...


Planned = TypeVar("Planned", bound=OfPrompts)


class ChunkedFile(Generic[Note]):
    """Chunks of lines, and beside them a journal, ``NAME.progress``: JSON lines that say what made the file, and then,
    for each chunk, how many bytes it has, the caller's note, and the digest of both.

    A chunk is there once its line in the journal is; both are on the disk by then. What a killed process left of a
    chunk after that is cut off by the next `append`. The journal's lock keeps a second process out.

    Args:
        path: The file. It and its journal are made where they are not there.
        identity: What decides the file's content: JSON scalars by key.
        kind: Of the notes: a data class of what JSON can say.

    Attributes:
        notes: The notes of the chunks that are there.

    Raises:
        ConfigError: The file was made otherwise, by something else, was changed since, is being written by another
            process, or cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], kind: type[Note]) -> None:
        self._path, journal = path, path.with_name(path.name + JOURNAL_SUFFIX)
        try:
            _refuse_unknown(path, journal)
            self._file, self._journal = _open(path), _open(journal)
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._file.fileno()).st_size == 0:
                # There is nothing to go on with, and so nothing that another identity would spoil.
                _write(self._journal, 0, _line(identity))
                self._journal.seek(0)
            heading, *lines = self._journal.read().splitlines(keepends=True)
        except BlockingIOError:
            raise ConfigError(f"{path} is being written by another process") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
        _check_identity(path, _read(journal, 1, heading), identity)
        # The last line may be half-written: then its chunk is not there yet.
        chunks = [_read(journal, n, line, CHUNK) for n, line in enumerate(lines, start=2) if line.endswith(b"\n")]
        self._sizes = self._intact(chunks)
        self.notes = [_noted(journal, n, chunk, kind) for n, chunk in enumerate(chunks[: len(self._sizes)], start=2)]
        self._ends = [len(heading)]
        for line in lines[: len(self._sizes)]:
            self._ends.append(self._ends[-1] + len(line))

    @property
    def rest(self) -> int:
        """Bytes after the last whole chunk: what a killed process left, or somebody else's."""
        return self._file.seek(0, os.SEEK_END) - sum(self._sizes)

    def forget(self, chunks: int) -> None:
        """Keep the first ``chunks`` chunks; the next `append` follows them."""
        del self.notes[chunks:], self._sizes[chunks:], self._ends[chunks + 1 :]

    def keep_planned(self: ChunkedFile[Planned], prompts: int, plan: Sequence[int]) -> int:
        """Keep the chunks that are there as planned, and forget a last one that is shorter.

        Args:
            prompts: How many the file is to hold.
            plan: Prompts of each chunk.

        Returns:
            How many chunks are there.

        Raises:
            ConfigError: The file holds more than that, or what no run of this command wrote.
        """
        there = sum(note.prompts for note in self.notes)
        if there > prompts:
            raise ConfigError(f"{self._path} has {there} prompts already, more than --prompts {prompts}")
        as_planned = (note.prompts == size for note, size in zip(self.notes, plan, strict=False))
        done = sum(takewhile(bool, as_planned))
        if done == len(plan) and self.rest:
            raise ConfigError(
                f"{self._path} goes on after its last prompt: {self.rest} bytes are not from this command"
            )
        self.forget(done)
        return done

    def append(self, lines: bytes, note: Note) -> None:
        """Write a chunk; when this returns it is on the disk.

        Raises:
            OSError: It could not be written. What was there before still is.
        """
        said = msgspec.to_builtins(note)
        _write(self._journal, self._ends[-1], b"")
        _write(self._file, sum(self._sizes), lines)
        entry = _line({"bytes": len(lines), "digest": _digest(lines, said), "note": said})
        _write(self._journal, self._ends[-1], entry)
        self._sizes.append(len(lines))
        self._ends.append(self._ends[-1] + len(entry))
        self.notes.append(note)

    def close(self) -> None:
        """Let another process write it."""
        self._file.close()
        self._journal.close()

    def _intact(self, chunks: Sequence[dict[str, Any]]) -> list[int]:
        """The sizes of the first chunks, as far as the file holds them whole."""
        sizes: list[int] = []
        size = os.fstat(self._file.fileno()).st_size
        for chunk in chunks:
            if sum(sizes) + chunk["bytes"] > size:
                break
            content = self._file.read(chunk["bytes"])
            if _digest(content, chunk["note"]) != chunk["digest"]:
                start = sum(sizes)
                raise ConfigError(
                    f"{self._path} was changed since it was written, in bytes {start} to {start + len(content)}; "
                    "name another file"
                )
            sizes.append(len(content))
        return sizes


def _refuse_unknown(path: Path, journal: Path) -> None:
    """A file with content needs a journal that says what made it."""
    if path.is_file() and path.stat().st_size > 0 and not (journal.exists() and b"\n" in content_of(journal)):
        raise ConfigError(f"{path} is there already, and no {journal.name} says what made it; name another file")


def _check_identity(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key in {**wanted, **found}:
        if found.get(key) != wanted.get(key):
            raise ConfigError(
                f"{path} was made with {key} {json.dumps(found.get(key))}, and this is {json.dumps(wanted.get(key))}; "
                "name another file"
            )


def _open(path: Path) -> BinaryIO:
    """For reading and writing, from the start, without cutting anything off."""
    return os.fdopen(opened_here(str(path), os.O_RDWR | os.O_CREAT), "r+b")


def _write(file: BinaryIO, position: int, content: bytes) -> None:
    """Make ``content`` the end of the file, from ``position`` on, and wait until the disk has it."""
    file.truncate(position)
    file.seek(position)
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _read(journal: Path, number: int, line: bytes, keys: Set[str] = frozenset()) -> dict[str, Any]:
    """A line of the journal: an object with at least these keys."""
    try:
        content = read_json(line)
    except ValueError:
        content = None
    if not isinstance(content, dict) or not keys <= content.keys() or not _is_size(content.get("bytes", 0)):
        raise ConfigError(f"{journal}:{number}: is no line of such a journal; name another file")
    return content


def _noted(journal: Path, number: int, chunk: Mapping[str, Any], kind: type[Note]) -> Note:
    """The note in a line of the journal."""
    try:
        return msgspec.convert(chunk["note"], kind)
    except msgspec.ValidationError:
        raise ConfigError(f"{journal}:{number}: is no line of such a journal; name another file") from None


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _digest(content: bytes, note: Mapping[str, Any]) -> str:
    return hashlib.blake2b(content + _line(note), digest_size=16).hexdigest()
