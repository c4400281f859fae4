"""A data set small enough to train on in a moment: a bright bar whose place is the class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tritbench.data.sources.idx_files import FILES, read_files
from tritbench.data.sources.source import Source
from tritbench.data.store import store
from tritbench.idx import idx_bytes

Bytes = NDArray[np.uint8]


def write_tiny_dataset(
    folder: Path,
    train: int = 300,
    test: int = 100,
    size: int = 8,
    classes: int = 3,
    tested: int | None = None,
    names: Sequence[str] | None = None,
) -> Path:
    """Write what `download` writes, and the IDX files it is of: the folder is `path:FOLDER` too.

    The test images are of the first `tested` classes.
    """
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    parts = ((train, classes), (test, tested or classes))
    arrays = [a for count, of in parts for a in _draw(random, count, size, classes, of)]
    for file, array in zip(FILES, arrays, strict=True):
        (folder / file).write_bytes(idx_bytes(array))
    held = read_files([folder / file for file in FILES], "tiny")
    source = Source("tiny", held.train, held.test, names or held.classes)
    store(source, folder, folder.name, None, 0, "tiny")
    return folder


def _draw(
    random: np.random.Generator, count: int, size: int, classes: int, drawn: int
) -> tuple[Bytes, Bytes]:
    labels = np.arange(count, dtype=np.uint8) % drawn
    images = random.integers(0, 120, (count, size, size), np.uint8)
    for image, label in zip(images, labels, strict=True):
        bar = slice(label * size // classes, (label + 1) * size // classes + 1)
        image[bar] += np.uint8(100)
    return images, labels
