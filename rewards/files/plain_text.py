"""Text files as people keep them, made plain: UTF-8 without a byte order mark, not compressed, one JSON record a line.

Read are gzip, Zstandard, bzip2 and xz, whatever the file is called, a byte order mark of UTF-8, and, where records are
wanted, one JSON list in place of lines, or Parquet. Everything else that is no UTF-8 text is refused with what it is.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from rewards.files.whole_file import regular

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
MARK = b"\xef\xbb\xbf"
PARQUET = b"PAR1"
HEAD_BYTES = 4096

_SPACE = re.compile(r"\s*")


class UnreadableTextError(ValueError):
    """It is no text that can be read; the message says what it is and what is allowed, and does not name the file."""


def open_text(file: Path) -> BinaryIO:
    """What a text file holds, from its first character on, to be read and sought; unless it is plain as it is, from an
    unnamed temporary file.

    Raises:
        UnreadableTextError: It is no text in UTF-8, or its compression is damaged.
        OSError: It cannot be read.
    """
    with open(file, "rb", opener=regular) as stream:
        head = stream.read(HEAD_BYTES)
    opener = next((opener for magic, opener in OPENERS.items() if head.startswith(magic)), None)
    if opener is None and not head.startswith(MARK):
        _refuse_other_kinds(head)
        return open(file, "rb", opener=regular)
    plain: BinaryIO = TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        with (opener or open)(file, "rb") as content:
            begin = content.read(HEAD_BYTES)
            _refuse_other_kinds(begin)
            plain.write(begin.removeprefix(MARK))
            shutil.copyfileobj(content, plain)
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        plain.close()
        if opener is None:
            raise
        raise UnreadableTextError(f"its compression is damaged: {' '.join(str(error).split())}") from None
    except BaseException:
        plain.close()
        raise
    plain.seek(0)
    return plain


def open_lines(file: Path) -> BinaryIO:
    """The JSON records of a file, one a line, as they are written there: what `open_text` gives, or the entries of the
    list that it holds, or the rows of a Parquet file, with null for what JSON has no words for.

    Raises:
        UnreadableTextError, OSError: See `open_text`; or it is a damaged Parquet file.
    """
    with open(file, "rb", opener=regular) as stream:
        is_parquet = stream.read(len(PARQUET)) == PARQUET
    if is_parquet:
        return _kept(_parquet_rows(file))
    text = open_text(file)
    is_list = text.read(HEAD_BYTES).lstrip().startswith(b"[")
    text.seek(0)
    if not is_list:
        return text
    try:
        entries = list_entries(text.read())
    except ValueError:  # then these are lines, and what is wrong with them says their reader
        text.seek(0)
        return text
    text.close()
    return _kept(entries)


def list_entries(content: bytes) -> list[str]:
    """The entries of a JSON list as they are written, each on a line.

    Raises:
        ValueError: It is none.

    >>> list_entries(b'[{"a": 1.50},\\n {"b":\\n [2]}]')
    ['{"a": 1.50}', '{"b":  [2]}']
    """
    text = content.decode()
    place = _after(text, _space(text, 0), "[")
    found: list[str] = []
    while not text.startswith("]", place):
        if found:
            place = _after(text, place, ",")
        try:
            _, end = json.JSONDecoder().raw_decode(text, place)
        except RecursionError:
            raise ValueError("its brackets are too deep") from None
        # Within a text there is no line break that is not escaped.
        found.append(text[place:end].replace("\n", " ").replace("\r", " "))
        place = _space(text, end)
    if _space(text, place + 1) < len(text):
        raise ValueError("something follows the list")
    return found


def plain_lines(file: Path, target: Path) -> Path:
    """A file of plain lines with the records of ``file``: itself, if it is one, else ``target``, which is written.

    Raises:
        UnreadableTextError, OSError: See `open_lines`.
    """
    with open_lines(file) as lines:
        if isinstance(lines.name, int):  # a temporary file has no name
            with target.open("wb") as plain:
                shutil.copyfileobj(lines, plain)
            return target
    return file


def record_files(folder: Path) -> list[Path]:
    """The JSON lines that a folder stands for, by name, compressed ones too where they are not there in plain."""
    names = [f"*.jsonl{ending}" for ending in ("", *COMPRESSED)]
    found = (file for name in names for file in folder.glob(name) if file.is_file())
    return sorted(file for file in found if file.suffix == ".jsonl" or not file.with_suffix("").is_file())


def named_kind(file: Path) -> str:
    """What a file's name says that it is, compression apart.

    >>> named_kind(Path("a/train.jsonl.gz")), named_kind(Path("b.CSV"))
    ('.jsonl', '.csv')
    """
    kind = file.suffix.lower()
    return Path(file.stem).suffix.lower() if kind in COMPRESSED else kind


def _kept(lines: Iterable[str]) -> BinaryIO:
    """Lines in an unnamed temporary file."""
    kept: BinaryIO = TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        kept.writelines(line.encode() + b"\n" for line in lines)
    except BaseException:
        kept.close()
        raise
    kept.seek(0)
    return kept


def _parquet_rows(file: Path) -> Iterator[str]:
    from pyarrow import ArrowException, parquet  # only here: they are not small, and text does without

    try:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=1024):
            yield from (json.dumps(row, ensure_ascii=False, default=lambda _: None) for row in batch.to_pylist())
    except (ArrowException, OSError, UnicodeError) as error:
        raise UnreadableTextError(f"not readable as Parquet: {' '.join(str(error).split())}") from None


def _open_zstandard(file: Path, mode: str) -> Any:
    import pyarrow as pa  # only here: it is not small, and plain files do without

    return pa.CompressedInputStream(pa.OSFile(str(file), mode), "zstd")


OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": _open_zstandard,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
OTHERS = {
    b"\xff\xfe\x00\x00": "it is UTF-32",
    b"\xff\xfe": "it is UTF-16",
    b"\xfe\xff": "it is UTF-16",
    b"\x00\x00\xfe\xff": "it is UTF-32",
    PARQUET: "it is a Parquet file",
    b"PK\x03\x04": "it is a zip archive, or a workbook",
}


def _refuse_other_kinds(head: bytes) -> None:
    what = next((what for magic, what in OTHERS.items() if head.startswith(magic)), None)
    if what is None and b"\x00" in head:
        what = "it holds zero bytes, as UTF-16 does and text does not"
    if what is not None:
        raise UnreadableTextError(f"{what}; allowed is text in UTF-8, plain or compressed ({', '.join(COMPRESSED)})")


def _after(text: str, place: int, wanted: str) -> int:
    if not text.startswith(wanted, place):
        raise ValueError(f"no {wanted} at character {place + 1}")
    return _space(text, place + 1)


def _space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place
