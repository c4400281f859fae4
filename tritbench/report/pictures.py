"""Small pictures as PNG in data URIs; the same arrays give the same bytes."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# RGB of -1, 0 and +1; 0 is transparent, so that it suits light and dark pages.
TRIT_COLORS = ((0xD5, 0x5E, 0x00), (0x80, 0x80, 0x80), (0x00, 0x72, 0xB2))


def image_png(pixels: NDArray[np.uint8]) -> str:
    """A data URI of uint8 [channels, height, width], gray (1) or RGB (3)."""
    gray_or_rgb = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    return _data_uri(Image.fromarray(np.ascontiguousarray(gray_or_rgb)))


def trits_png(trits: NDArray[np.int8]) -> str:
    """A data URI of int8 [height, width] in {-1, 0, +1}, in TRIT_COLORS."""
    picture = Image.fromarray((trits + 1).astype(np.uint8), mode="P")
    picture.putpalette([channel for color in TRIT_COLORS for channel in color])
    return _data_uri(picture, transparency=1, bits=2)


def css_color(trit: int) -> str:
    """The colour of -1, 0 or +1 as CSS writes it.

    >>> css_color(1)
    '#0072b2'
    """
    return f"#{bytes(TRIT_COLORS[trit + 1]).hex()}"


def _data_uri(picture: Image.Image, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, **options)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
