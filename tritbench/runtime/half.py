"""Which scales and biases a network may store as float16 without changing a prediction."""

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from tritbench.models import InputSpec
from tritbench.packing import Network, PackedLayer
from tritbench.packing.fold import fold
from tritbench.quantize import Quantized
from tritbench.runtime.reference import from_network

_BATCH = 500
_SUSPECTS = 1000  # images that are closest to another class: where a change shows first


def half_arrays(quantized: Quantized, spec: InputSpec, images: Tensor) -> frozenset[str]:
    """Names of scales and biases (`layers.1.scale`) for `save_trit` to store as float16.

    The class with the largest logit stays the same for each of `images`, uint8 [n, ...], the
    validation split. All arrays are tried at once; where that changes a class, one after another,
    the largest first and each twice, for one change may undo another's.
    """
    layers = fold(quantized)
    logits = _logits(layers, spec, images)
    expected = logits.argmax(1)
    best = logits.topk(2).values if logits.shape[1] > 1 else logits.repeat(1, 2)
    suspects = torch.zeros(len(images), dtype=torch.bool)
    suspects[(best[:, 0] - best[:, 1]).argsort()[:_SUSPECTS]] = True
    sizes = {
        f"layers.{index}.{key}": array.size
        for index, layer in enumerate(layers)
        for key, array in layer.arrays.items()
        if key != "trits" and np.isfinite(_rounded(array)).all()
    }
    order = sorted(sizes, key=lambda name: -sizes[name])
    while True:
        chosen: list[str] = []
        for names in (order, *([name] for name in order + order)):
            more = [*chosen, *(name for name in names if name not in chosen)]
            if len(more) > len(chosen):
                found = _logits(_with_half(layers, more), spec, images[suspects]).argmax(1)
                chosen = more if torch.equal(found, expected[suspects]) else chosen
        wrong = _logits(_with_half(layers, chosen), spec, images).argmax(1) != expected
        if not wrong.any() or not chosen:
            return frozenset(chosen)
        if not (wrong & ~suspects).any():
            # Sums differ in their last bit with the size of a batch: too close to call.
            order.remove(chosen[-1])
        suspects |= wrong


def _logits(layers: list[PackedLayer], spec: InputSpec, images: Tensor) -> Tensor:
    model = from_network(Network(layers, spec, [], "", {}, {}))
    return torch.cat([model(batch) for batch in images.split(_BATCH)])


def _with_half(layers: list[PackedLayer], names: Collection[str]) -> list[PackedLayer]:
    return [
        PackedLayer(
            layer.about,
            {
                key: _rounded(array) if f"layers.{index}.{key}" in names else array
                for key, array in layer.arrays.items()
            },
        )
        for index, layer in enumerate(layers)
    ]


def _rounded(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)
