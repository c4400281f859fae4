"""A data set small enough to train on in a moment: a bright bar whose place is the class."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tritbench.data.dataset import write_description
from tritbench.data.names import FILES
from tritbench.idx import idx_bytes

Bytes = NDArray[np.uint8]


def write_tiny_dataset(
    folder: Path,
    train: int = 300,
    test: int = 100,
    size: int = 8,
    classes: int = 3,
    tested: int | None = None,
) -> Path:
    """Write the four IDX files and dataset.json; the folder also serves as `path:FOLDER`.

    The test images are of the first `tested` classes.
    """
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    parts = ((train, classes), (test, tested or classes))
    arrays = [a for count, of in parts for a in _draw(random, count, size, classes, of)]
    for file, array in zip(FILES, arrays, strict=True):
        (folder / file).write_bytes(idx_bytes(array))
    write_description(folder, folder.name, "tiny", [str(label) for label in range(classes)])
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
