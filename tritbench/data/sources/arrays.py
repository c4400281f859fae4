"""Arrays in one .npz file: x_train, y_train and, where there are test data, x_test, y_test."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.data.sources.idx_files import read_class_names
from tritbench.data.sources.source import Part, Source
from tritbench.errors import TritbenchError
from tritbench.files import open_regular
from tritbench.idx import with_channels
from tritbench.params import DataParams

_KEYS = ("x_train", "y_train", "x_test", "y_test")


def holds(folder: Path) -> bool:
    """Whether there is an .npz file."""
    return any(folder.glob("*.npz"))


def read(folder: Path, params: DataParams) -> Source:
    """The data set in the folder's one .npz file; classes.txt beside it names classes.

    `x` is uint8 or floats of any shape [n, ...]. Three dimensions are gray images, four are images
    whose axis of length 1 or 3 is that of the channels; in floats of two or more than four the
    second axis is that of features, each normalized on its own. `y` are integers [n] or [n, 1].

    Raises:
        TritbenchError: naming the file and array, and what was expected.
    """
    paths = sorted(folder.glob("*.npz"))
    if len(paths) > 1:
        raise TritbenchError(f"{folder}: {len(paths)} .npz files, expected one")
    found: dict[str, NDArray[Any]] = {}
    with open_regular(paths[0]) as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                found = {key: archive[key] for key in _KEYS if key in archive}
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise TritbenchError(f"{paths[0]}: not an .npz file of numbers: {reason}") from None
    wanted = _KEYS if "x_test" in found or "y_test" in found else _KEYS[:2]
    if missing := [key for key in wanted if key not in found]:
        raise TritbenchError(f"{paths[0]}: no array {missing[0]}, expected {', '.join(wanted)}")
    train, *test = (
        _part(paths[0], key, found[f"x_{key}"], found[f"y_{key}"])
        for key in ("train", "test")
        if f"x_{key}" in found
    )
    classes = read_class_names(folder, train.labels)
    return Source(f"path:{params.name}", train, test[0] if test else None, classes)


def _part(path: Path, key: str, x: NDArray[Any], y: NDArray[Any]) -> Part:
    images_in, labels_in = f"{path}: x_{key}", f"{path}: y_{key}"
    if (x.dtype != np.uint8 and x.dtype.kind != "f") or x.ndim < 2:
        raise TritbenchError(
            f"{images_in}: {x.dtype} {list(x.shape)}, expected uint8 or floats [n, ...]"
        )
    if x.dtype != np.uint8:
        if not np.isfinite(x).all():
            raise TritbenchError(f"{images_in}: holds NaN or infinity, expected finite numbers")
        x = x.astype(np.float32)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise TritbenchError(f"{labels_in}: {y.dtype} {list(y.shape)}, expected integers [n]")
    images = with_channels(x, images_in) if x.ndim in (3, 4) else x
    return Part(images, y.astype(np.int64), images_in, labels_in)
