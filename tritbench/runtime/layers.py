"""What the engine and its integer reference agree on: whole groups and folded pixels."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from tritbench.models import InputSpec
from tritbench.packing import PackedLayer

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

# 64 × trit × 255, summed over a group, must fit 32 bits.
LONGEST_GROUP = 1 << 17


def grouped(layer: PackedLayer) -> tuple[Ints, Floats]:
    """Which scale each input of a linear or conv2d layer has, and the scales.

    A group longer than `LONGEST_GROUP` is cut into several of the same scale.

    Returns:
        group of each input, int32 [inputs]; scales float32 [out, groups].
    """
    trits, scale = layer.arrays["trits"], layer.arrays["scale"]
    outputs, inputs = trits.shape
    size = layer.about["group_size"]
    column = np.arange(inputs) // size
    piece = np.arange(inputs) % size // LONGEST_GROUP
    starts = np.flatnonzero(np.diff(column * inputs + piece, prepend=-1))
    group = np.zeros(inputs, np.int32)
    group[starts[1:]] = 1
    scales = np.broadcast_to(scale, (outputs, scale.shape[1]))[:, column[starts]]
    return np.cumsum(group, dtype=np.int32), np.ascontiguousarray(scales, np.float32)


def fold_pixels(
    scales: Floats, bias: Floats, sums: NDArray[np.int64], spec: InputSpec
) -> tuple[Floats, Floats]:
    """Scales and bias for integer pixels instead of normalized ones, computed in float64.

    With x = (pixel / 255 - mean) / std, Σ scale × trit × x + bias is
    Σ pixel scale × trit × pixel + pixel bias.

    Args:
        scales: [out, groups].
        bias: [out].
        sums: sums of the trits that do not meet padding, [..., out, groups].
        spec: mean and std.

    Returns:
        pixel scales float32 [out, groups], pixel bias float32 [..., out].
    """
    wide = scales.astype(np.float64) / spec.std
    shift = (wide * sums).sum(-1) * spec.mean
    return (wide / 255).astype(np.float32), (bias - shift).astype(np.float32)


def pieces(layers: Iterable[PackedLayer]) -> Iterator[tuple[PackedLayer | None, list[PackedLayer]]]:
    """Layers as weights and what follows them; the first piece may have no weights."""
    weights: PackedLayer | None = None
    following: list[PackedLayer] = []
    for layer in layers:
        if layer.about["type"] in ("linear", "conv2d"):
            yield weights, following
            weights, following = layer, []
        else:
            following.append(layer)
    yield weights, following
