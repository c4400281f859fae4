"""From a folder that `download` made to tensors, split into training, validation and test."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from tritbench.data.names import FILES, TRAIN_IMAGES
from tritbench.errors import TritbenchError
from tritbench.files import sha256, write_atomic
from tritbench.idx import read_images, read_labels

DESCRIPTION = "dataset.json"

# Streams of random numbers, apart from each other and from the embedded set's 0 and 1.
_SPLIT, _CALIBRATION = 2, 3
_ONE_IN = 6  # of all training images, at most, for validation


class Description(BaseModel):
    """What dataset.json says of the four files beside it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    source: str
    sha256: dict[str, str]
    counts: dict[str, int]
    image: list[int]
    classes: list[str]


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images: `pixels` is uint8 [n, channels, height, width], `labels` int64 [n]."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: torch.Tensor) -> "Images":
        """The images at these indices, int64 [m], in their order."""
        return Images(self.pixels[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory; `mean` and `std` are each channel's, of training pixels in [0, 1]."""

    name: str
    classes: list[str]
    sha256: dict[str, str]
    train: Images
    validation: Images
    test: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        _, channels, height, width = self.train.pixels.shape
        return channels, height, width


def load(folder: Path, validation: int, seed: int) -> Dataset:
    """Load a data set and take `validation` of its training images, by seed, for validation.

    At most a sixth of them is taken, so that a default made for 60,000 images suits smaller sets.
    Every class keeps its share in both parts, up to rounding.

    Raises:
        TritbenchError: a file is missing, damaged or not the one that dataset.json describes, or
            data.validation does not suit the data set.
    """
    about = read_description(folder)
    for file in FILES:
        found = sha256(folder / file) if (folder / file).is_file() else "no such file"
        if found != about.sha256[file]:
            raise TritbenchError(
                f"{folder / file}: found {found}, expected SHA-256 {about.sha256[file]}"
            )
    train, test = read_parts([folder / file for file in FILES])
    found_facts = _facts(train, test)
    if found_facts != (about.counts, about.image, len(about.classes)):
        raise TritbenchError(
            f"{folder / DESCRIPTION}: describes {about.counts}, image {about.image} and "
            f"{len(about.classes)} classes, but the files hold {found_facts}"
        )
    kept, held_out = split(train.labels.numpy(), min(validation, len(train) // _ONE_IN), seed)
    kept_images = train.select(torch.from_numpy(kept))
    moments = [_mean_and_std(channel) for channel in kept_images.pixels.unbind(1)]
    for index, (mean, std) in enumerate(moments):
        if std == 0:
            where = f" of channel {index}" if len(moments) > 1 else ""
            raise TritbenchError(f"{folder / TRAIN_IMAGES}: every pixel{where} is {mean * 255:g}")
    held_out_images = train.select(torch.from_numpy(held_out))
    return Dataset(
        about.name,
        about.classes,
        about.sha256,
        kept_images,
        held_out_images,
        test,
        tuple(mean for mean, _ in moments),
        tuple(std for _, std in moments),
    )


def calibration_images(dataset: Dataset, count: int, seed: int) -> torch.Tensor:
    """Draw training images by seed, without labels: uint8 [at most count, channels, ...]."""
    chosen = _permutation(len(dataset.train), _CALIBRATION, seed)[:count]
    return dataset.train.pixels[torch.from_numpy(chosen)]


def split(
    labels: NDArray[np.int64], validation: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to train on and `validation` indices held out, ascending, stratified by class.

    Raises:
        TritbenchError: data.validation is less than the number of classes, or leaves a class
            without a training image.
    """
    sizes = np.bincount(labels)
    if validation < len(sizes):
        cap = len(labels) // _ONE_IN
        limit = f" (at most a sixth of the {len(labels)} images)" if validation == cap else ""
        raise TritbenchError(
            f"data.validation: {validation} images{limit}, expected at least one of each of the "
            f"{len(sizes)} classes"
        )
    # Largest remainder: every class gets its share rounded down, and those that lost most one more.
    quotas, remainders = np.divmod(validation * sizes.astype(np.int64), len(labels))
    short = validation - quotas.sum()
    quotas[np.argsort(-remainders, kind="stable")[:short]] += 1
    bare = np.flatnonzero(quotas >= sizes)
    if len(bare):
        raise TritbenchError(
            f"data.validation: {validation} images leave no training image of class {bare[0]}, "
            f"expected less of the {len(labels)} images"
        )
    order = _permutation(len(labels), _SPLIT, seed)
    held_out = np.zeros(len(labels), bool)
    for label, quota in enumerate(quotas):
        held_out[order[labels[order] == label][:quota]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _permutation(count: int, stream: int, seed: int) -> NDArray[np.int64]:
    """A permutation from a bit generator's raw output, which NumPy keeps stable over versions."""
    raw = np.asarray(np.random.Philox(key=stream * 2**64 + seed).random_raw(count), np.uint64)
    return np.argsort(raw, kind="stable").astype(np.int64)


def _mean_and_std(pixels: torch.Tensor) -> tuple[float, float]:
    """Mean and standard deviation of pixels / 255, exact up to the last rounding."""
    histogram = [0] * 256
    for part in pixels.split(4096):  # bincount makes a copy eight times as large
        counts = torch.bincount(part.flatten(), minlength=256).tolist()
        histogram = [a + b for a, b in zip(histogram, counts, strict=True)]
    count = sum(histogram)
    total = sum(value * n for value, n in enumerate(histogram))
    squares = sum(value * value * n for value, n in enumerate(histogram))
    variance = (count * squares - total * total) / (255 * count) ** 2
    return total / (255 * count), math.sqrt(variance)


def read_parts(files: Sequence[Path]) -> tuple[Images, Images]:
    """Read four IDX files as (training, test) and check that they belong together.

    Args:
        files: in the order of FILES.

    Raises:
        TritbenchError: naming the file, what was found and what was expected.
    """
    train_images, train_labels, test_images, test_labels = files
    train, test = _read_part(train_images, train_labels), _read_part(test_images, test_labels)
    present = train.labels.unique()
    classes = int(present[-1]) + 1
    if len(present) != classes:
        missing = int(torch.nonzero(present != torch.arange(len(present)))[0])
        raise TritbenchError(
            f"{train_labels}: no image has label {missing}, but one has {classes - 1}; "
            "expected labels without a gap from 0"
        )
    if classes < 2:
        raise TritbenchError(f"{train_labels}: found 1 class, expected at least 2")
    if int(test.labels.max()) >= classes:
        raise TritbenchError(
            f"{test_labels}: found label {int(test.labels.max())}, "
            f"expected 0 to {classes - 1} as in {train_labels.name}"
        )
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        raise TritbenchError(
            f"{test_images}: images are {_size(test)}, "
            f"expected {_size(train)} as in {train_images.name}"
        )
    return train, test


def _read_part(images: Path, labels: Path) -> Images:
    pixels, numbers = read_images(images), read_labels(labels)
    if pixels.size == 0:
        raise TritbenchError(f"{images}: shape is {pixels.shape}, expected at least one pixel")
    if len(pixels) != len(numbers):
        raise TritbenchError(
            f"{labels}: found {len(numbers)} labels, expected {len(pixels)}, one for each image"
        )
    return Images(torch.from_numpy(pixels), torch.from_numpy(numbers))


def _size(images: Images) -> str:
    return "x".join(str(size) for size in _shape(images))


def _shape(images: Images) -> list[int]:
    """As dataset.json has it: [height, width], or [channels, height, width] of several."""
    channels, *size = images.pixels.shape[1:]
    return size if channels == 1 else [channels, *size]


def _facts(train: Images, test: Images) -> tuple[dict[str, int], list[int], int]:
    counts = {"train": len(train), "test": len(test)}
    return counts, _shape(train), int(train.labels.max()) + 1


def read_description(folder: Path) -> Description:
    """Read a folder's dataset.json.

    Raises:
        TritbenchError: it is missing, or not what `download` writes.
    """
    path = folder / DESCRIPTION
    try:
        about = Description.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise TritbenchError(
            f"{path}: no such file, expected what stages/download.py writes"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "content"
        raise TritbenchError(f"{path}: {key}: {first['msg']}") from None
    if set(about.sha256) != set(FILES):
        raise TritbenchError(
            f"{path}: sha256 names {sorted(about.sha256)}, expected {sorted(FILES)}"
        )
    return about


def write_description(folder: Path, name: str, source: str, classes: Sequence[str]) -> Description:
    """Read and check a folder's four files, then write the dataset.json that describes them.

    Raises:
        TritbenchError: the files do not belong together, or there are not as many classes.
    """
    counts, image, found = _facts(*read_parts([folder / file for file in FILES]))
    if len(classes) != found:
        raise TritbenchError(f"{name}: found labels of {found} classes, expected {len(classes)}")
    about = Description(
        name=name,
        source=source,
        sha256={file: sha256(folder / file) for file in FILES},
        counts=counts,
        image=image,
        classes=list(classes),
    )
    content = json.dumps(about.model_dump(), indent=2, sort_keys=True, ensure_ascii=False)
    write_atomic(folder / DESCRIPTION, content + "\n")
    return about
