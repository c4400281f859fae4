"""A row of packed weights as sums of terms, one sum for each scale; pixels folded into them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tritbench.packing.weights import IntegerArray, PackedArray
from tritbench.runtime.geometry import Geometry

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

# 64 × trit × 255, or 8-bit weight × 255, summed over a group, must fit 32 bits.
LONGEST_GROUP = 1 << 17
LONGEST_INTEGER_GROUP = 1 << 16


@dataclass(frozen=True)
class Terms:
    """A row of weights as sums of terms, one sum for each scale.

    Attributes:
        trits: int8 [out, terms]; of 8-bit weights their values.
        inputs: which input each term takes, int32 [terms].
        group: which scale each term has, int32 [terms], in order.
        scales: float32 [out, groups].
    """

    trits: NDArray[np.int8]
    inputs: Ints
    group: Ints
    scales: Floats

    def folded(
        self,
        channel: NDArray[np.intp],
        inside: NDArray[np.bool_],
        mean: NDArray[np.float64],
        std: NDArray[np.float64],
        bias: Floats,
    ) -> tuple["Terms", Floats]:
        """Terms of integer pixels instead of normalized ones, computed in float64.

        With x = (pixel / 255 - mean) / std of its channel, Σ scale × trit × x + bias is
        Σ pixel scale × trit × pixel + pixel bias. Channels of other std have scales of their own.

        Args:
            channel: of each input.
            inside: whether an input is inside of the image, [classes, inputs].
            mean: of each channel.
            std: of each channel.
            bias: [out].

        Returns:
            the terms, in order of their groups; pixel bias float32 [classes, out].
        """
        kinds, kind = np.unique(std, return_inverse=True)
        own = kind.reshape(-1)[channel[self.inputs]]
        groups, group = np.unique(self.group * len(kinds) + own, return_inverse=True)
        of, which = np.divmod(groups, len(kinds))
        wide = self.scales[:, of].astype(np.float64) / kinds[which]
        order = np.argsort(group.reshape(-1), kind="stable")
        group = group.reshape(-1)[order].astype(np.int32)
        trits, inputs = self.trits[:, order], self.inputs[order]
        weighted = trits * mean[channel[inputs]]
        shift = np.zeros((len(inside), len(trits)))
        for g in range(len(groups)):
            chosen = group == g
            met = inside[:, inputs[chosen]].astype(np.float64) @ weighted[:, chosen].T
            shift += met * wide[:, g]
        return (
            Terms(trits, inputs, group, (wide / 255).astype(np.float32)),
            (bias - shift).astype(np.float32),
        )


def make_terms(weight: PackedArray, rows: slice) -> Terms:
    """The terms of some outputs' weights: one for each input, or for each input and sign.

    Where trits of -1 have scales of their own, positive and negative trits are summed apart. A
    group longer than `LONGEST_GROUP` is cut into several of the same scale.
    """
    if isinstance(weight, IntegerArray):
        values = weight.values[rows]
        size = values.shape[1]
        group, scales = _grouped(weight.scale[rows], values.shape, size, LONGEST_INTEGER_GROUP)
        return Terms(values, np.arange(size, dtype=np.int32), group, scales)
    trits = weight.trits[rows]
    shared = len(weight.scale) == 1  # by all outputs
    scale = weight.scale if shared else weight.scale[rows]
    group, scales = _grouped(scale, trits.shape, weight.group_size, LONGEST_GROUP)
    inputs = np.arange(trits.shape[1], dtype=np.int32)
    if weight.negative_scale is None:
        return Terms(trits, inputs, group, scales)
    negative = weight.negative_scale if shared else weight.negative_scale[rows]
    _, other = _grouped(negative, trits.shape, weight.group_size, LONGEST_GROUP)
    return Terms(
        np.concatenate([trits.clip(min=0), trits.clip(max=0)], 1),
        np.concatenate([inputs, inputs]),
        np.concatenate([group, group + np.int32(scales.shape[1])]),
        np.concatenate([scales, other], 1),
    )


def _grouped(scale: Floats, shape: tuple[int, ...], size: int, longest: int) -> tuple[Ints, Floats]:
    """Which group each input is in, int32 [inputs]; the groups' scales, float32 [out, groups]."""
    outputs, inputs = shape
    column = np.arange(inputs) // size
    piece = np.arange(inputs) % size // longest
    starts = np.flatnonzero(np.diff(column * inputs + piece, prepend=-1))
    group = np.zeros(inputs, np.int32)
    group[starts[1:]] = 1
    scales = np.broadcast_to(scale, (outputs, scale.shape[1]))[:, column[starts]]
    return np.cumsum(group, dtype=np.int32), np.ascontiguousarray(scales, np.float32)


def taps(geometry: Geometry, axis: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Which taps of a kernel lie inside the image, by class, and each output position's class.

    Returns:
        class of each position int32 [positions]; inside [classes, kernel].
    """
    count, kernel = geometry.out_size[axis], geometry.kernel[axis]
    at = np.arange(count)[:, None] * geometry.stride[axis] - geometry.padding[axis]
    at = at + np.arange(kernel) * geometry.dilation[axis]
    inside, classes = np.unique((at >= 0) & (at < geometry.size[axis]), axis=0, return_inverse=True)
    return classes.reshape(-1).astype(np.int32), inside
