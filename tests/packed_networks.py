"""Ternary networks with random weights, for tests of what executes them."""

import numpy as np
from numpy.typing import NDArray

from tritbench.packing import Network
from tritbench.packing.version1 import PackedLayer, chain_network
from tritbench.shapes import InputSpec, follow


def dense(
    random, inputs: int, outputs: int, group_size: int | None = None, rows: int | None = None
):
    """A linear layer; `rows` is 1 for one scale in all."""
    size = group_size or inputs
    about = {"type": "linear", "in": inputs, "out": outputs, "group_size": size}
    return PackedLayer(about, _arrays(random, outputs, inputs, size, rows))


def conv(random, inputs, outputs, kernel=(3, 3), stride=(1, 1), padding=(0, 0), group_size=None):
    """A convolution."""
    taps = inputs * kernel[0] * kernel[1]
    size = group_size or taps
    about = {
        "type": "conv2d",
        "in": inputs,
        "out": outputs,
        "kernel": list(kernel),
        "stride": list(stride),
        "padding": list(padding),
        "group_size": size,
    }
    return PackedLayer(about, _arrays(random, outputs, taps, size))


def two_sided(random, layer):
    """A layer whose trits of -1 have scales of their own."""
    scale = random.normal(0, 0.1, layer.arrays["scale"].shape).astype(np.float32)
    return PackedLayer(layer.about, layer.arrays | {"negative_scale": scale})


def affine(random, features):
    """What a BatchNorm of its own becomes."""
    return PackedLayer(
        {"type": "affine", "features": features},
        {"scale": _floats(random, features), "bias": _floats(random, features)},
    )


def pool(kind, kernel=(2, 2), stride=(2, 2)):
    """`max` or `avg`."""
    return PackedLayer({"type": f"{kind}pool2d", "kernel": list(kernel), "stride": list(stride)})


RELU = PackedLayer({"type": "relu"})
FLATTEN = PackedLayer({"type": "flatten"})


def network(*layers: PackedLayer, shape=(1, 8, 8), mean=0.3, std=0.4) -> Network:
    """Layers as `load_trit` gives them."""
    spec = InputSpec(shape, (mean,) * shape[0], (std,) * shape[0])
    ((outputs,),) = follow([layer.about for layer in layers], shape)[-1:]
    return chain_network(list(layers), spec, [str(index) for index in range(outputs)])


def pixels(random, count: int, shape) -> NDArray[np.uint8]:
    """uint8 images [count, *shape]."""
    return random.integers(0, 256, (count, *shape), np.uint8)


def _arrays(random, outputs, inputs, size, rows=None):
    trits = random.integers(-1, 2, (outputs, inputs), np.int8)
    scale = random.normal(0, 0.1, (rows or outputs, -(-inputs // size))).astype(np.float32)
    return {"trits": trits, "scale": scale, "bias": _floats(random, outputs)}


def _floats(random, size):
    return random.normal(0, 1, size).astype(np.float32)
