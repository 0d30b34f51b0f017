"""Images that records name by path."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image


class UnreadableImageError(ValueError):
    """A file is not there, or is no image; the message names it."""


def check_images(paths: Iterable[Path]) -> None:
    """Open each file as far as it takes to know that it is an image.

    Raises:
        UnreadableImageError: One is not.
    """
    for path in paths:
        with _open(path):
            pass


def load_images(paths: Iterable[Path]) -> tuple[Image.Image, ...]:
    """The images, in RGB.

    Raises:
        UnreadableImageError: One is not there, or is broken.
    """
    images = []
    for path in paths:
        with _open(path) as image:
            try:
                images.append(image.convert("RGB"))
            except Exception as error:  # a broken image file can fail in any way
                raise UnreadableImageError(f"image {path} cannot be read: {error}") from None
    return tuple(images)


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except Exception as error:  # as above
        reason = getattr(error, "strerror", None) or "it is no image"
        raise UnreadableImageError(f"image {path} cannot be read: {reason}") from None
