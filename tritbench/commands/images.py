"""Images of any origin as what a network takes: pictures, IDX files, and folders of pictures."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tritbench import idx
from tritbench.errors import TritbenchError, printable
from tritbench.files import open_regular
from tritbench.pictures import KINDS, PICTURES, opened, pixels_of

NAMED = 3  # of the files that are left out of a folder
Pixels = NDArray[np.uint8]


def find_images(paths: list[Path]) -> list[Path]:
    """The files, and for each folder the pictures in it and below it, by name.

    What else lies in a folder is named on stderr; hidden files are not.

    Raises:
        TritbenchError: for a path that is not there, or a folder without pictures.
    """
    found = []
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise TritbenchError(f"{path}: no such file")
            found.append(path)
            continue
        files = sorted(p for p in path.rglob("*") if not p.is_dir() and p.name[0] != ".")
        inside = [p for p in files if p.suffix.lower() in PICTURES and p.is_file()]
        if not inside:
            raise TritbenchError(f"{path}: no pictures, expected {', '.join(PICTURES)} files")
        if others := sorted(set(files) - set(inside)):
            more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
            listed = printable(", ".join(map(str, others[:NAMED])) + more)
            print(f"{printable(str(path))}: left out, not {KINDS}: {listed}", file=sys.stderr)
        found += inside
    return found


def read_images(path: Path, shape: tuple[int, ...]) -> Iterator[tuple[str, Pixels]]:
    """Each image of a file with its name, as uint8 of `shape` [channels, height, width].

    Pictures become what training takes (`pixels_of`). Images of an IDX file must have the
    network's size.

    Raises:
        TritbenchError: for a file that is no such image.
    """
    if path.suffix.lower() in PICTURES:
        yield str(path), _read_picture(path, shape)
        return
    images = _read_idx(path)
    if images.shape[1:] != shape:
        gray = images.shape[1] == shape[0] == 1
        sizes = (images.shape[1:], shape)
        found, expected = (" × ".join(map(str, size[gray:])) for size in sizes)
        raise TritbenchError(f"{path}: images are {found}, expected {expected}")
    for index, image in enumerate(images):
        yield f"{path}[{index}]", image


def _read_picture(path: Path, shape: tuple[int, ...]) -> Pixels:
    channels, *size = shape
    if channels not in (1, 3):
        raise TritbenchError(f"{path}: the network takes {channels} channels, expected 1 or 3")
    with opened(path, str(path)) as image:
        return pixels_of(image, channels, (size[0], size[1]))


def _read_idx(path: Path) -> Pixels:
    with open_regular(path) as file:
        start = file.read(4)
    if start[:2] not in (idx.GZIP, b"\0\0"):
        raise TritbenchError(
            f"{path}: starts with {start.hex() or 'nothing'}, expected a {KINDS} image, or IDX"
        )
    return idx.read_images(path)
