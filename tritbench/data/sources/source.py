"""What every source of images gives: labelled parts, decoded or still to be decoded."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import EXIT_NO_SOURCE, TritbenchError
from tritbench.params import DataParams

if TYPE_CHECKING:
    from PIL.Image import Image

NAMED = 10  # of the files that are wrong


class NoSource(TritbenchError):  # noqa: N818  - it says what is missing
    """No source has the data set. The message says what was tried and what to run instead."""

    exit_code = EXIT_NO_SOURCE


@dataclass(frozen=True)
class Request:
    """What a source is asked for.

    Attributes:
        params: which data set, and mirrors to try.
        seed: selects the images of sets that are drawn.
        work: an empty folder for what is downloaded.
        program: begins the lines on stderr.
    """

    params: DataParams
    seed: int
    work: Path
    program: str


@dataclass(frozen=True)
class Picture:
    """One that is decoded when it is needed.

    Attributes:
        name: begins the errors.
        opened: gives it.
        stamp: another one where the picture of this name is another.
    """

    name: str
    opened: Callable[[], AbstractContextManager["Image"]]
    stamp: str = ""


@dataclass(frozen=True)
class Part:
    """Training or test images.

    Attributes:
        images: arrays as they are stored, uint8 or float32 [n, ...], or pictures. These are asked
            for in order, so that a source may read ahead.
        labels: int64 [n].
        images_in: the file or folder of the images, for errors.
        labels_in: likewise of the labels.
    """

    images: NDArray[Any] | Sequence[Picture]
    labels: NDArray[np.int64]
    images_in: str
    labels_in: str

    def select(self, indices: NDArray[np.int64]) -> "Part":
        """The images at these ascending indices."""
        images = self.images
        chosen = images[indices] if isinstance(images, np.ndarray) else Chosen(images, indices)
        return Part(chosen, self.labels[indices], self.images_in, self.labels_in)


@dataclass(frozen=True)
class Chosen(Sequence[Picture]):
    """Some pictures of a sequence."""

    pictures: Sequence[Picture]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.pictures[int(self.indices[index])]


@dataclass(frozen=True)
class Source:
    """A data set as it was found.

    Attributes:
        name: of where it was found, for dataset.json and messages.
        train: training images.
        test: test images; None where the source has no such part.
        classes: names, one for each label; None where the source has none.
        sha256: of the arrays that it must become, by file; None where they are not known.
    """

    name: str
    train: Part
    test: Part | None
    classes: Sequence[str] | None
    sha256: Mapping[str, str] | None = None


def listed(problems: Sequence[str], count: int) -> str:
    """The first problems in one line, and how many there are of `count` files."""
    more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    return f"{len(problems)} of {count} images cannot be used: {'; '.join(problems[:NAMED])}{more}"


def as_pictures(part: Part) -> Part:
    """Decoded images as pictures, so that they can be resized."""
    from PIL import Image

    images = part.images
    assert isinstance(images, np.ndarray)

    def picture(index: int) -> Picture:
        pixels = images[index]
        pixels = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
        return Picture(f"{part.images_in}[{index}]", partial(Image.fromarray, pixels))

    return Part(
        [picture(i) for i in range(len(images))], part.labels, part.images_in, part.labels_in
    )


def folder_variable(dataset: str) -> str:
    """The environment variable that may name a folder with a published data set's files."""
    return dataset.replace("-", "_").upper() + "_DIR"
