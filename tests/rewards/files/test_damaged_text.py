"""Compressed text that is damaged is said to be so, wherever the damage is."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from rewards.files.plain_text import UnreadableTextError, open_text

CONTENT = gzip.compress(b'{"a": 1}\n' * 3 + bytes(range(32, 96)), mtime=0)


@pytest.mark.parametrize("place", range(10, len(CONTENT), 3))
def test_no_flipped_byte_of_gzip_goes_unnoticed(place: int, tmp_path: Path) -> None:
    damaged = bytearray(CONTENT)
    damaged[place] ^= 0xFF
    (tmp_path / "a.jsonl.gz").write_bytes(damaged)
    with pytest.raises(UnreadableTextError, match="its compression is damaged"):
        open_text(tmp_path / "a.jsonl.gz")
    (tmp_path / "b.jsonl.gz").write_bytes(CONTENT)
    assert open_text(tmp_path / "b.jsonl.gz").read() == gzip.decompress(CONTENT)
