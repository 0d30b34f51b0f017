"""Images as they stand in a page: small, and inside it."""

from __future__ import annotations

import base64
import io

from PIL.Image import Image

LONGEST_SIDE = 336
QUALITY = 85


def data_uri(image: Image) -> str:
    """An image as a WebP of at most `LONGEST_SIDE` pixels a side, in a URI that needs no other file."""
    small = image.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    stream = io.BytesIO()
    small.save(stream, format="WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
