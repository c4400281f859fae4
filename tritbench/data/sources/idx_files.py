"""A folder with four IDX files, gzipped or not, and classes.txt where classes have names."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tritbench.data.sources.source import Part, Source
from tritbench.errors import TritbenchError
from tritbench.files import read_text
from tritbench.idx import read_images, read_labels
from tritbench.params import DataParams
from tritbench.shapes import PREDICTION_COLUMNS

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
CLASSES = "classes.txt"


def names_of(file: str) -> list[str]:
    """What one of FILES may be called in a user's folder, in the order in which it is looked for.

    >>> names_of(TEST_LABELS)[1:3]
    ['t10k-labels-idx1-ubyte', 't10k-labels-idx1-int.gz']
    """
    stem, rank, _ = file.rsplit("-", 2)
    kinds = ("idx1-ubyte", "idx1-int") if rank == "idx1" else ("idx3-ubyte", "idx4-ubyte")
    return [f"{stem}{dash}{kind}{gz}" for dash in "-." for kind in kinds for gz in (".gz", "")]


def holds(folder: Path) -> bool:
    """Whether one of the files is there, under any of its names."""
    return any(os.path.lexists(folder / name) for file in FILES for name in names_of(file))


def read(folder: Path, params: DataParams) -> Source:
    """The data set in the folder.

    Raises:
        TritbenchError: a file is missing or damaged.
    """
    return read_files([_found(folder, file) for file in FILES], f"path:{params.name}")


def read_files(files: Sequence[Path], name: str) -> Source:
    """The data set in four files, in the order of FILES; classes.txt beside them names classes.

    Raises:
        TritbenchError: a file is missing or damaged.
    """
    train_images, train_labels, test_images, test_labels = files
    train, test = _part(train_images, train_labels), _part(test_images, test_labels)
    return Source(name, train, test, read_class_names(train_images.parent, train.labels))


def _found(folder: Path, file: str) -> Path:
    there = [folder / name for name in names_of(file) if os.path.lexists(folder / name)]
    return there[0] if there else folder / file


def _part(images: Path, labels: Path) -> Part:
    pixels, numbers = read_images(images), read_labels(labels)
    return Part(pixels, numbers.astype(np.int64), str(images), str(labels))


def read_class_names(folder: Path, labels: NDArray[np.int64]) -> list[str] | None:
    """Names in a folder's classes.txt, one a line; None where there is no such file.

    Raises:
        TritbenchError: it is no text, has not as many names as there are labels, or a name cannot
            be shown.
    """
    path = folder / CLASSES
    if not os.path.lexists(path):  # a broken link is no missing file
        return None
    names = [line.strip() for line in read_text(path).splitlines()]
    count = int(labels.max(initial=0)) + 1
    if len(names) != count:
        raise TritbenchError(
            f"{path}: found {len(names)} lines, expected {count}, a name for each label"
        )
    check_class_names(names, str(path))
    return names


def check_class_names(names: Sequence[str], origin: str) -> None:
    """Refuse names that are empty, not different or cannot be shown.

    Raises:
        TritbenchError: beginning with `origin`, naming the first.
    """
    if len(set(names) - {""}) != len(names):
        raise TritbenchError(
            f"{origin}: found {len(set(names) - {''})} different names, expected {len(names)}, "
            "one for each label"
        )
    for name in names:
        if any(unicodedata.category(character) == "Cc" for character in name):
            raise TritbenchError(f"{origin}: {name!r}: expected a name without control characters")
    if taken := [name for name in names if name in PREDICTION_COLUMNS]:
        raise TritbenchError(
            f"{origin}: {taken[0]!r} is a column of `tritbench predict --csv`, expected another "
            "name"
        )
