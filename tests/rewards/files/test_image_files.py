"""Images of many kinds become RGB; which are refused, `tests/rl/commands/test_bad_input.py` tries."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rewards.files.images import UnreadableImageError, check_image, read_image
from tests.fixtures.builders import an_image
from tests.fixtures.wrong_files import encoded

PALETTE = an_image().quantize(4)
SEE_THROUGH = Image.new("RGBA", (3, 2), (10, 20, 30, 0))
HALF = Image.new("RGBA", (3, 2), (0, 0, 0, 128))
DEEP = Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16))


def pixels(image: Image.Image) -> list[list[list[int]]]:
    return np.asarray(image).tolist()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_formats_without_loss(kind: str) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    assert pixels(read_image(encoded(an_image(), kind, **options))) == pixels(an_image())


def test_colours_become_rgb() -> None:
    assert pixels(read_image(encoded(an_image().convert("CMYK"), "TIFF"))) == pixels(an_image())
    assert pixels(read_image(encoded(PALETTE, "PNG"))) == pixels(PALETTE.convert("RGB"))
    grey = an_image().convert("L")
    assert pixels(read_image(encoded(grey, "PNG"))) == pixels(grey.convert("RGB"))
    for kind in ("PNG", "TIFF"):
        assert pixels(read_image(encoded(DEEP, kind))) == [[[0] * 3, [1] * 3, [128] * 3, [255] * 3]]


def test_what_is_transparent_becomes_white() -> None:
    assert set(np.asarray(read_image(encoded(SEE_THROUGH, "PNG"))).ravel()) == {255}
    assert set(np.asarray(read_image(encoded(HALF, "PNG"))).ravel()) == {127}


def deep_png(levels: list[list[int]], transparent: list[int] | None) -> bytes:
    """A PNG file of 16 bits a channel, one row high, of grey, grey and alpha, RGB or RGBA levels."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[len(levels[0])]

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", len(levels), 1, 16, kind, 0, 0, 0))
    see_through = chunk(b"tRNS", np.array(transparent, ">u2").tobytes()) if transparent else b""
    row = chunk(b"IDAT", zlib.compress(b"\0" + np.array(levels, ">u2").tobytes()))
    return b"\x89PNG\r\n\x1a\n" + head + see_through + row + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("levels", "transparent", "shown"),
    [
        ([[0], [32767], [65535], [257]], None, [0, 127, 255, 1]),
        ([[0], [32767], [65535], [257]], [32767], [0, 255, 255, 1]),
        ([[0], [32767], [32766], [257]], [0], [255, 127, 127, 1]),
        ([[0], [1], [65535]], [65535], [0, 0, 255]),
        ([[0], [1], [256]], [1], [0, 255, 0]),
        ([[0, 0], [0, 65535], [65535, 0], [0, 32768]], None, [255, 0, 255, 127]),
        ([[500, 500, 500], [32767] * 3, [0, 0, 0]], [500, 500, 500], [255, 127, 0]),
        ([[40000] * 3, [32767] * 3, [0, 0, 0]], [0, 0, 0], [156, 127, 255]),
        ([[40000] * 3, [32767] * 3, [0, 0, 0]], None, [156, 127, 0]),
        ([[0, 0, 0, 0], [0, 0, 0, 65535]], None, [255, 0]),
    ],
)
def test_pixels_of_16_bits_and_transparent_ones(
    levels: list[list[int]], transparent: list[int] | None, shown: list[int]
) -> None:
    assert pixels(read_image(deep_png(levels, transparent))) == [[[level] * 3 for level in shown]]


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_one_transparent_colour_of_8_bits_becomes_white(mode: str) -> None:
    picture = Image.new(mode, (2, 1), 0)
    picture.putpixel((1, 0), 1)
    whole = np.asarray(read_image(encoded(picture, "PNG", transparency=0)))
    assert (whole[0, 0] == 255).all()
    assert (whole[0, 1] == np.asarray(picture.convert("RGB"))[0, 1]).all()


def test_photographs_are_turned_and_a_camera_may_have_further_views() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # held on its side
    turned = encoded(an_image(size=(3, 2)), "JPEG", exif=exif)
    assert read_image(turned).size == check_image(turned) == (2, 3)
    assert check_image(encoded(an_image(size=(3, 2)), "PNG")) == (3, 2)
    views = encoded(an_image(), "MPO", save_all=True, append_images=[an_image((0, 0, 0))])
    assert read_image(views).size == (3, 2)


def test_the_content_counts_and_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(an_image(), "PNG"))
    assert pixels(read_image(tmp_path / "photo.jpg")) == pixels(an_image())


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_cut_image_is_found_when_it_is_read(kind: str, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = encoded(noise, kind)
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    check_image(tmp_path / "cut")
    with pytest.raises(UnreadableImageError, match=r"image .*cut cannot be read: .*truncated"):
        read_image(tmp_path / "cut")
