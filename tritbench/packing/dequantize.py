"""Trits and scales as float weights."""

import numpy as np
from numpy.typing import NDArray

from tritbench.packing.network import PackedLayer


def scales(layer: PackedLayer, key: str = "scale") -> NDArray[np.float32]:
    """float32 [out, groups], a row for each output also where all share one."""
    scale, out = layer.arrays[key], layer.about["out"]
    return np.ascontiguousarray(np.broadcast_to(scale, (out, scale.shape[1])))


def weights(layer: PackedLayer) -> NDArray[np.float32]:
    """float32 [out, in] of a linear layer, [out, in, height, width] of a conv2d layer."""
    trits = layer.arrays["trits"]
    scale = scales(layer).repeat(layer.about["group_size"], 1)[:, : trits.shape[1]]
    if "negative_scale" in layer.arrays:
        negative = scales(layer, "negative_scale").repeat(layer.about["group_size"], 1)
        scale = np.where(trits < 0, negative[:, : trits.shape[1]], scale)
    kernel = layer.about.get("kernel", [])
    return (trits * scale).reshape(len(trits), -1, *kernel).astype(np.float32, copy=False)
