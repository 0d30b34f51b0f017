"""Images that records name by path, or hold as the bytes of a file: found where they may lie, looked at, and read.

Read are the formats of `FORMATS`, whatever the file is called. Other colours become RGB (CMYK, palettes, grey; 16 bits
of grey become 8), transparent parts become white, and a photograph is turned as its camera was held. Refused, each with
its reason, are pictures of more than `MOST_PIXELS`, which a file of a few kilobytes can hold, animated ones, pixels of
32 bits, and paths that lead out of the folder that they are relative to.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow knows more, some of which would start a program, as PostScript does."""
MOST_PIXELS = 89_478_485
"""A quarter of a GiB in RGB, from which on Pillow warns."""


class UnreadableImageError(ValueError):
    """It is not there, or no image that is allowed; the message names the file, if it is one, and the reason."""


class OutsideFolderError(UnreadableImageError):
    """A path leads out of the folder that it is relative to."""


def image_path(folder: Path, name: str) -> Path:
    """Where an image lies that a record names: inside of a folder, as the path stands and where links lead.

    Raises:
        OutsideFolderError: It lies elsewhere.
        UnreadableImageError: It cannot be a path.
    """
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # too long, a character that no path has, links that go in circles
        raise UnreadableImageError(f"image {name!r:.100} cannot be read: it is no path") from None
    if not inside:
        raise OutsideFolderError(f"image {name:.300} lies outside of {folder}; allowed are paths that lead into it")
    return path


def check_images(paths: Iterable[Path]) -> None:
    """`check_image`, of each.

    Raises:
        UnreadableImageError: One cannot be read.
    """
    for path in paths:
        check_image(path)


def load_images(paths: Iterable[Path]) -> tuple[Image.Image, ...]:
    """`read_image`, of each.

    Raises:
        UnreadableImageError: One is not there, or is broken.
    """
    return tuple(read_image(path) for path in paths)


def check_image(file: Path | bytes) -> tuple[int, int]:
    """Look at an image as far as it takes to know its kind; its pixels may still turn out to be broken.

    Returns:
        Its width and height, upright.

    Raises:
        UnreadableImageError: It cannot be read.
    """
    with _opened(file) as image:
        # Of a PNG that says nothing in its head, Pillow would read all pixels for what may follow.
        silent = image.format == "PNG" and "exif" not in image.info
        lies = not silent and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        return (image.height, image.width) if lies else image.size


def read_image(file: Path | bytes) -> Image.Image:
    """An image in RGB, upright, from a file or from what one holds.

    Raises:
        UnreadableImageError: It cannot be read.
    """
    with _opened(file) as image:
        transparent = image.info.get("transparency")
        if isinstance(transparent, tuple) and any(";16" in str(part[3]) for part in getattr(image, "tile", ())):
            # Pillow keeps the upper half of a pixel's 16 bits, and all of those of the colour that is transparent.
            image.info["transparency"] = tuple(level >> 8 for level in transparent)
        return _rgb(ImageOps.exif_transpose(image))


@contextmanager
def _opened(file: Path | bytes) -> Iterator[Image.Image]:
    """The image, known to be allowed; whatever goes wrong with it is one line."""
    try:
        _refuse_what_is_no_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is broken and does not matter, or is an error here
            with Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as image:
                _refuse_other_kinds(image)
                yield image
    except UnidentifiedImageError:
        reason = f"it is of no known format; allowed are {', '.join(FORMATS)}"
    except Image.DecompressionBombError:
        reason = _too_large()
    except Exception as error:  # a broken image file can fail in any way
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    else:
        return
    named = "image" if isinstance(file, bytes) else f"image {file!s:.300}"
    raise UnreadableImageError(f"{named} cannot be read: {reason}")


def _refuse_what_is_no_file(file: Path | bytes) -> None:
    if isinstance(file, Path):
        if file.exists() and not file.is_file():
            raise ValueError("it is no file")
        size = file.stat().st_size
    else:
        size = len(file)
    if size == 0:
        raise ValueError("it is empty")


def _refuse_other_kinds(image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(_too_large())
    # A photograph in MPO's format has further views of the same.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise ValueError(f"it has {frames} frames; allowed is one")
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels have 32 bits (mode {image.mode}); allowed are 8 or 16 of a channel")


def _too_large() -> str:
    return f"it has more than {MOST_PIXELS:,} pixels, the most that are allowed"


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would make everything above 255 white.
        levels = np.asarray(image)
        shown = np.where(levels == image.info.get("transparency", -1), 255, levels // 257)
        return Image.fromarray(shown.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image.convert("RGBA"))
        return page.convert("RGB")
    return image.convert("RGB")


def image_digest(image: Image.Image) -> str:
    """What an image is known by: 64 hexadecimal digits, of mode, size and pixels."""
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()
