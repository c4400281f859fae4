"""From a folder that `download` made to tensors, split into training, validation and test."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from tritbench.data.description import ARRAYS, DESCRIPTION, TRAIN_IMAGES, read_description
from tritbench.data.rows import Rows
from tritbench.data.split import CALIBRATION_STREAM, ONE_IN, permutation, split
from tritbench.errors import TritbenchError
from tritbench.files import sha256

IN_MEMORY = 2**31  # bytes; a larger array stays on disk
_MOMENT_BYTES = 2**28  # of images on disk, whose mean and std are taken


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images.

    Attributes:
        pixels: uint8 [n, channels, height, width], or float32 of any shape [n, ...]. Those of a
            large data set are `Rows`, which are read from disk when they are indexed.
        labels: int64 [n].
    """

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: torch.Tensor) -> "Images":
        """The images at these indices, int64 [m], in their order, in memory."""
        return Images(self.pixels[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set; `mean` and `std` are each channel's, of training pixels in [0, 1]."""

    name: str
    classes: list[str]
    sha256: dict[str, str]
    train: Images
    validation: Images
    test: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of one: channels, height and width; or what float data have."""
        return tuple(self.train.pixels.shape[1:])


def load(folder: Path, validation: int, seed: int) -> Dataset:
    """Load a data set and take `validation` of its training images, by seed, for validation.

    At most a sixth of them is taken, so that a default made for 60,000 images suits smaller sets.
    Every class keeps its share in both parts, up to rounding. Arrays of more than 2 GiB stay on
    disk, mapped into memory; their size is checked, not their SHA-256.

    Raises:
        TritbenchError: a file is missing, damaged or not the one that dataset.json describes, or
            data.validation does not suit the data set.
    """
    about = read_description(folder)
    arrays = {file: _read_array(folder / file, about.sha256[file]) for file in ARRAYS}
    train, test = (
        Images(
            torch.from_numpy(arrays[f"{part}-images.npy"]),
            torch.from_numpy(arrays[f"{part}-labels.npy"]),
        )
        for part in ("train", "test")
    )
    found = (
        {"train": len(train.pixels), "test": len(test.pixels)},
        [n for i, n in enumerate(train.pixels.shape[1:]) if i or n > 1 or train.pixels.dim() == 2],
        int(train.labels.max()) + 1,
    )
    if found != (about.counts, about.image, len(about.classes)):
        raise TritbenchError(
            f"{folder / DESCRIPTION}: describes {about.counts}, image {about.image} and "
            f"{len(about.classes)} classes, but the files hold {found}"
        )
    chosen = split(train.labels.numpy(), min(validation, len(train) // ONE_IN), seed)
    kept, held_out = (torch.from_numpy(indices) for indices in chosen)
    on_disk = isinstance(arrays[TRAIN_IMAGES], np.memmap)
    rest = (
        train.select(kept)
        if not on_disk
        else Images(cast(torch.Tensor, Rows(train.pixels, kept)), train.labels[kept])
    )
    mean, std = mean_and_std(rest.pixels, str(folder / TRAIN_IMAGES))
    held = train.select(held_out)
    return Dataset(about.name, about.classes, about.sha256, rest, held, test, mean, std)


def calibration_images(dataset: Dataset, count: int, seed: int) -> torch.Tensor:
    """Draw training images by seed, without labels: [at most count, channels, ...]."""
    chosen = permutation(len(dataset.train), CALIBRATION_STREAM, seed)[:count]
    return dataset.train.pixels[torch.from_numpy(chosen)]


def _read_array(path: Path, expected: str) -> NDArray[Any]:
    found = "no such file"
    try:
        large = path.stat().st_size > IN_MEMORY
        if large or (found := sha256(path)) == expected:
            # "c": PyTorch wants memory that may be written to; what is written stays in memory.
            array: NDArray[Any] = np.load(path, "c" if large else None, allow_pickle=False)
            return array
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, EOFError) as error:
        found = " ".join(str(error).split())
    raise TritbenchError(f"{path}: found {found}, expected SHA-256 {expected}")


def mean_and_std(pixels: torch.Tensor, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Each channel's mean and standard deviation, exact up to the last rounding.

    Those of uint8 pixels are of pixels / 255. A channel that never changes has a deviation of 1.
    Of images on disk, 256 MiB are looked at, evenly spaced.

    Raises:
        TritbenchError: beginning with `name`, where no channel changes.
    """
    if isinstance(pixels, Rows):
        step = -(-len(pixels) * math.prod(pixels.shape[1:]) // _MOMENT_BYTES)
        pixels = pixels[torch.arange(0, len(pixels), step)]
    moments = [
        _of_bytes(channel) if pixels.dtype == torch.uint8 else _of_floats(channel)
        for channel in pixels.unbind(1)
    ]
    if not any(std for _, std in moments):
        white = 255 if pixels.dtype == torch.uint8 else 1
        raise TritbenchError(f"{name}: every pixel is {moments[0][0] * white:g}")
    return tuple(mean for mean, _ in moments), tuple(std or 1.0 for _, std in moments)


def _of_bytes(pixels: torch.Tensor) -> tuple[float, float]:
    histogram = [0] * 256
    for part in pixels.split(4096):  # bincount makes a copy eight times as large
        counts = torch.bincount(part.flatten(), minlength=256).tolist()
        histogram = [a + b for a, b in zip(histogram, counts, strict=True)]
    count = sum(histogram)
    total = sum(value * n for value, n in enumerate(histogram))
    squares = sum(value * value * n for value, n in enumerate(histogram))
    variance = (count * squares - total * total) / (255 * count) ** 2
    return total / (255 * count), math.sqrt(variance)


def _of_floats(values: torch.Tensor) -> tuple[float, float]:
    wide = values.double()
    return float(wide.mean()), float(wide.std(correction=0))
