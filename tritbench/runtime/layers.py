"""What the engine and its integer reference agree on: sums of terms and folded pixels."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.packing import PackedLayer
from tritbench.shapes import InputSpec

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

# 64 × trit × 255, summed over a group, must fit 32 bits.
LONGEST_GROUP = 1 << 17


@dataclass(frozen=True)
class Terms:
    """A row of weights as sums of terms, one sum for each scale.

    Attributes:
        trits: int8 [out, terms].
        inputs: which input each term takes, int32 [terms].
        group: which scale each term has, int32 [terms], in order.
        scales: float32 [out, groups].
    """

    trits: NDArray[np.int8]
    inputs: Ints
    group: Ints
    scales: Floats


def make_terms(layer: PackedLayer) -> Terms:
    """The terms of a linear or conv2d layer: one for each input, or for each input and sign.

    Where trits of -1 have scales of their own, positive and negative trits are summed apart. A
    group longer than `LONGEST_GROUP` is cut into several of the same scale.
    """
    trits = layer.arrays["trits"]
    group, scales = _grouped(layer, "scale")
    inputs = np.arange(trits.shape[1], dtype=np.int32)
    if "negative_scale" not in layer.arrays:
        return Terms(trits, inputs, group, scales)
    _, negative = _grouped(layer, "negative_scale")
    return Terms(
        np.concatenate([trits.clip(min=0), trits.clip(max=0)], 1),
        np.concatenate([inputs, inputs]),
        np.concatenate([group, group + np.int32(scales.shape[1])]),
        np.concatenate([scales, negative], 1),
    )


def _grouped(layer: PackedLayer, key: str) -> tuple[Ints, Floats]:
    """Which group each input is in, int32 [inputs]; the groups' scales, float32 [out, groups]."""
    trits, scale = layer.arrays["trits"], layer.arrays[key]
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
    scales: Floats, bias: Floats, sums: NDArray[Any], spec: InputSpec
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
    mean, std = spec.shared
    wide = scales.astype(np.float64) / std
    shift = (wide * sums).sum(-1) * mean
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
