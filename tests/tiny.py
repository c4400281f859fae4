"""A data set that trains in a blink: bright bars whose place tells the class, in noise."""

from pathlib import Path

import numpy as np

from tritbench.data.idx import idx_bytes
from tritbench.data.names import FILES


def write_tiny_dataset(
    folder: Path, train: int = 300, test: int = 100, size: int = 8, classes: int = 3
) -> Path:
    """Write four IDX files of size × size images into `folder` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    arrays = []
    for count in (train, test):
        labels = (np.arange(count) % classes).astype(np.uint8)
        images = random.integers(0, 100, (count, size, size), dtype=np.uint8)
        for label, image in zip(labels, images, strict=True):
            image[size * label // classes : size * (label + 1) // classes] += 100
        arrays += [images, labels]
    for file, array in zip(FILES, arrays, strict=True):
        (folder / file).write_bytes(idx_bytes(array))
    return folder
