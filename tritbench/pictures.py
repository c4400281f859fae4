"""Pictures (PNG, JPEG, BMP, WebP) as pixels: opened with care, upright, brought to a size."""

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.files import open_regular
from tritbench.optional import explained

if TYPE_CHECKING:
    from PIL.Image import Image

# What Pillow reads, by the ends of files' names.
PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
FORMATS = list(dict.fromkeys(PICTURES.values()))
KINDS = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
MOST_PIXELS = 2**26  # that a picture may declare: a small file must not take all memory
_ORIENTATION = 0x0112  # of EXIF


@contextmanager
def opened(source: Path | bytes, name: str) -> Iterator["Image"]:
    """A picture, whose pixels are decoded when the body asks for them.

    Args:
        source: a file, or its content.
        name: begins the errors.

    Raises:
        TritbenchError: it is no picture, is damaged or declares more than `MOST_PIXELS`.
    """
    pillow = _pillow()
    with open_regular(source) if isinstance(source, Path) else BytesIO(source) as file:
        try:
            image = pillow.open(file, formats=FORMATS)
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise TritbenchError(
                    f"{name}: declares {height}×{width} pixels, expected at most {MOST_PIXELS:,}"
                )
            yield image
        except TritbenchError:
            raise
        except pillow.UnidentifiedImageError:  # its words are an address in memory
            found = "empty" if file.seek(0, 2) == 0 else f"not a {KINDS} image"
            raise TritbenchError(f"{name}: {found}") from None
        except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
            reason = " ".join(str(error).split())
            raise TritbenchError(f"{name}: not a {KINDS} image: {reason}") from None


@functools.cache
def _pillow() -> ModuleType:
    with explained():
        from PIL import Image
    # `opened` refuses what Pillow would warn of.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return Image


def is_gray(image: "Image") -> bool:
    """Whether a picture has one channel, apart from transparency."""
    return image.mode in ("1", "L", "LA", "F") or is_deep(image)


def is_deep(image: "Image") -> bool:
    """Whether a picture has one channel of 16 bits, of which the upper 8 are taken."""
    return image.mode.startswith("I")


def upright_size(image: "Image") -> tuple[int, int]:
    """Height and width as it is meant to be seen; nothing is decoded."""
    turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION, 1) > 4
    width, height = image.size
    return (width, height) if turned else (height, width)


def pixels_of(image: "Image", channels: int, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """A picture as uint8 [channels, height, width]: upright, and on black where transparent.

    Args:
        image: opened.
        channels: 1 (gray) or 3 (RGB).
        size: height and width. What is larger or smaller is scaled until it covers them, its sides
            in proportion, and cut to its middle; None leaves it as it is.
    """
    from PIL import Image, ImageOps

    if size is not None and image.format == "JPEG":
        image.draft(None, (2 * size[1], 2 * size[0]))  # decodes fewer pixels of a large one
    image = ImageOps.exif_transpose(image)
    if is_deep(image):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != size[::-1]:
        image = ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
