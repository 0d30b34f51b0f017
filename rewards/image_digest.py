"""What an image is known by: the same pixels, the same name."""

from __future__ import annotations

import hashlib

from PIL.Image import Image


def image_digest(image: Image) -> str:
    """64 hexadecimal digits, of mode, size and pixels."""
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()
