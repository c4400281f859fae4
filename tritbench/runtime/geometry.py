"""A convolution, or a linear layer as one: where the rows of its product lie in a map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tritbench.runtime.parts import Windows


@dataclass(frozen=True)
class Geometry:
    """A convolution, or a linear layer as one whose maps are rows.

    Attributes:
        size: height and width of a map.
        channels: of a map.
        kernel: height and width.
        stride: of both.
        padding: of both, on both sides.
        dilation: of both.
        groups: of channels.
        outputs: of all groups.
        order: where in a map of one position each input lies, for linear; else None.
    """

    size: tuple[int, int]
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    outputs: int
    order: NDArray[np.intp] | None = None

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Padding: top, left, bottom, right."""
        return (*self.padding, *self.padding)

    @property
    def out_size(self) -> tuple[int, int]:
        """Output positions."""
        height, width = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                self.size, self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        return height, width

    def windows(self, maps: int, sides: Sequence[int], base: int, planar: bool) -> Windows:
        """Rows of a product over maps with `sides` of padding in them, at least the geometry's."""
        top, left, bottom, right = sides
        height, width = self.size[0] + top + bottom, self.size[1] + left + right
        pixel = 1 if planar else self.channels
        base += ((top - self.padding[0]) * width + left - self.padding[1]) * pixel
        group = self.channels // self.groups * (height * width if planar else 1)
        return Windows(
            base,
            maps,
            height * width * self.channels,
            *self.out_size,
            self.stride[0] * width * pixel,
            self.stride[1] * pixel,
            self.groups,
            group,
        )

    def places(self, sides: Sequence[int], planar: bool) -> NDArray[np.intp]:
        """Where each input of a group lies in a map with `sides` of padding, from its window on."""
        if self.order is not None:
            return self.order
        width = self.size[1] + sides[1] + sides[3]
        height = self.size[0] + sides[0] + sides[2]
        c, y, x = np.indices((self.channels // self.groups, *self.kernel)).reshape(3, -1)
        y, x = y * self.dilation[0], x * self.dilation[1]
        if planar:
            return np.asarray((c * height + y) * width + x, np.intp)
        return np.asarray((y * width + x) * self.channels + c, np.intp)
