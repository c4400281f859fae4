"""What a network takes, and the shapes that its layers, as plain JSON, make of one image."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritbench.errors import TritbenchError

if TYPE_CHECKING:
    from torch import Tensor

ChainLayer = dict[str, Any]  # {"type": "linear", ...}
Shape = tuple[int, ...]

LARGEST = 2**22  # values of an image, or of a layer's output for one image
# What `tritbench predict --csv` writes of an image, before a column for each class.
PREDICTION_COLUMNS = ("image", "class", "probability")


@dataclass(frozen=True)
class InputSpec:
    """What a network takes: images [n, *shape] whose channels are normalized by mean and std.

    Attributes:
        shape: of one: [channels, height, width], or of other data [features, ...].
        mean: of each channel's pixels, which are 0..1.
        std: likewise, each above 0.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise TritbenchError(
                f"mean and std of {len(self.mean)} and {len(self.std)} channels, "
                f"expected {self.shape[0]}, those of an image"
            )

    def normalize(self, images: "Tensor") -> "Tensor":
        """float32 [n, *shape] of uint8 images, or of float images in 0..1, of any batch shape."""
        import torch  # here, for a .trit file is read and run without it

        pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        mean, std = (
            torch.tensor(values, device=images.device).view(-1, *[1] * (len(self.shape) - 1))
            for values in (self.mean, self.std)
        )
        return (pixels.reshape(-1, *self.shape) - mean) / std

    @property
    def shared(self) -> tuple[float, float]:
        """The mean and std of all channels.

        Raises:
            TritbenchError: where channels have their own: then a chain cannot hold them.
        """
        if len({*self.mean}) > 1 or len({*self.std}) > 1:
            raise TritbenchError(
                f"mean {list(self.mean)} and std {list(self.std)} differ by channel, expected one "
                "of all channels in a file of version 1"
            )
        return self.mean[0], self.std[0]


def row_length(layer: ChainLayer) -> int:
    """How many weights each output of a linear or conv2d layer has."""
    height, width = layer.get("kernel", (1, 1))
    return int(layer["in"] * height * width)


def check_chain(layers: list[ChainLayer], image: Shape, classes: int) -> list[Shape]:
    """Follow one image through a classifier: `follow`, and the last shape must be [classes].

    Raises:
        TritbenchError: as `follow`, or naming what the network gives instead.
    """
    shapes = follow(layers, image)
    if shapes[-1:] != [(classes,)]:
        given = list(shapes[-1] if shapes else image)
        raise TritbenchError(f"the network gives {given}, expected [{classes}], its classes")
    return shapes


def follow(layers: list[ChainLayer], image: Shape) -> list[Shape]:
    """Follow one image through a chain of layers.

    Args:
        layers: as a .trit file describes them, or `tritbench.models.describe`.
        image: [channels, height, width].

    Returns:
        the shape of each layer's output.

    Raises:
        TritbenchError: naming a layer that does not take what the one before it gives.
    """
    shape = image
    shapes = []
    _check_size("the image", shape)
    for index, layer in enumerate(layers):
        name = f"layer {index} ({layer['type']})"
        if shape != (following := _output(name, layer, shape)):
            _check_size(name, following)
        shape = following
        shapes.append(shape)
    return shapes


def _output(name: str, layer: ChainLayer, shape: Shape) -> Shape:
    match layer["type"]:
        case "linear":
            _expect(name, shape, (layer["in"],))
            _check_group(name, layer)
            return (layer["out"],)
        case "conv2d":
            _expect(name, shape, (layer["in"], *shape[1:3]), dimensions=3)
            _check_group(name, layer)
            padding, kernel = layer["padding"], layer["kernel"]
            padded = [n + 2 * p for n, p in zip(shape[1:], padding, strict=True)]
            _check_size(name, (shape[0], *padded))
            return (layer["out"], *_slide(name, padded, kernel, layer["stride"]))
        case "maxpool2d" | "avgpool2d":
            _expect(name, shape, shape, dimensions=3)
            return (shape[0], *_slide(name, list(shape[1:]), layer["kernel"], layer["stride"]))
        case "affine":
            _expect(name, shape, (layer["features"], *shape[1:]))
        case "batchnorm1d":
            _expect(name, shape, (layer["features"],))
        case "batchnorm2d":
            _expect(name, shape, (layer["features"], *shape[1:]), dimensions=3)
        case "flatten":
            return (math.prod(shape),)
    return shape


def _slide(name: str, size: list[int], kernel: list[int], stride: list[int]) -> list[int]:
    if any(k > n for k, n in zip(kernel, size, strict=True)):
        raise TritbenchError(f"{name} has a kernel {kernel}, expected at most {size}")
    return [(n - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True)]


def _expect(name: str, shape: Shape, expected: Shape, dimensions: int | None = None) -> None:
    if shape != expected or len(shape) != (dimensions or len(shape)):
        wanted = list(expected) if shape != expected else f"{dimensions} dimensions"
        raise TritbenchError(f"{name} is given {list(shape)}, expected {wanted}")


def _check_group(name: str, layer: ChainLayer) -> None:
    if layer.get("group_size", 1) > row_length(layer):
        found = f"group_size {layer['group_size']}"
        raise TritbenchError(f"{name} has {found}, expected at most {row_length(layer)}")


def _check_size(name: str, shape: Shape) -> None:
    if not 1 <= math.prod(shape) <= LARGEST:
        raise TritbenchError(
            f"{name} has the shape {list(shape)}, expected at least 1 and at most {LARGEST} values"
        )
