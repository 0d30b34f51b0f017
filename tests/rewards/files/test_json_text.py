"""JSON that cannot be read is one line, whatever is wrong with it; what is no regular file is not opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rewards.files.json_records import UnusableRecordError, json_object
from rewards.files.json_text import read_json, read_json_file, read_record
from rewards.files.whole_file import NO_FILE, content_of


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value at character 1"),
        ('{"a": 1,\n "b": }', "line 2: Expecting value at character 7"),
        ("[" * 100_000, "its brackets are too deep"),
        ('{"a":' * 100_000, "its brackets are too deep"),
        ("9" * 5000, "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits"),
        (b'"\xff"', "not UTF-8 at byte 2"),
    ],
)
def test_what_cannot_be_read_is_one_line(text: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as raised:
        read_json(text)
    assert str(raised.value) == f"not JSON: {said}"
    file = tmp_path / "a.json"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ValueError, match=str(file)):
        read_json_file(file)


def test_what_python_can_hold_is_read() -> None:
    assert read_json("[" * 50 + "]" * 50) and read_json("9" * 4000) == int("9" * 4000)
    assert read_json('{"a": [1.5, null, "ü"]}'.encode()) == {"a": [1.5, None, "ü"]}


def test_pipes_devices_and_folders_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"[]")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for place in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match=NO_FILE):
            content_of(place)
    with pytest.raises(OSError):
        content_of(tmp_path)
    assert content_of(tmp_path / "link") == b"[]"
    with pytest.raises(OSError, match="no link"):
        read_json_file(tmp_path / "link")


@pytest.mark.parametrize("line", [rb'"\ud800"', rb'{"question": "a\uDC00b"}', rb'[["x", "\ude00\ud83d"]]'])
def test_a_record_holds_no_half_of_a_character(line: bytes) -> None:
    assert read_json(line) is not None
    with pytest.raises(ValueError, match=r"^holds half of a character; allowed is text that UTF-8 can hold$"):
        read_record(line)
    with pytest.raises(UnusableRecordError, match="half of a character" if line.startswith(b"{") else ""):
        json_object(line)


@pytest.mark.parametrize("line", [rb'{"a": "\ud83d\ude00 \u00e9"}', '{"a": "\\\\ud800 é"}'.encode(), b"[1, null]"])
def test_a_record_holds_whole_characters(line: bytes) -> None:
    assert read_record(line) == read_json(line)
