"""Standard output that cannot be written to does not end a command, and is not passed over in silence either."""

from __future__ import annotations

import io
import os
import sys

import pytest

from rl.commands.lasting_output import lasting_output


def opened(descriptor: int, encoding: str = "utf-8") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(descriptor, "w"), encoding, write_through=True)


@pytest.mark.parametrize("lines", [1, 10_000])
def test_a_reader_that_has_ended_is_no_error(monkeypatch: pytest.MonkeyPatch, lines: int) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with opened(writes) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with lasting_output() as unprinted:
            for _ in range(lines):
                print("a line")
        assert sys.stdout is stream
    assert unprinted == []


def test_a_full_disk_is_told_of_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(os.open("/dev/full", os.O_WRONLY)) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with lasting_output() as unprinted:
            print("a line")
    assert unprinted == ["No space left on device"]


def test_what_can_be_written_is_and_unknown_characters_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = os.pipe()
    with opened(writes, "latin-1") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with lasting_output() as unprinted:
            print("é ✅", file=sys.stderr, end="")
    with os.fdopen(reads, "rb") as reader:
        assert reader.read() == "é \\u2705".encode("latin-1")
    assert unprinted == []


def test_streams_without_a_descriptor_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = io.StringIO()
    monkeypatch.setattr(sys, "stdout", memory)
    monkeypatch.setattr(sys, "stderr", None)
    with lasting_output() as unprinted:
        print("a line")
    assert (memory.getvalue(), unprinted) == ("a line\n", [])
