"""Which scales, biases and other float arrays a network may store as float16 without changing a
prediction."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tritbench.graph.interpret import run
from tritbench.packing.graph_file import pack, to_half
from tritbench.packing.weights import PackedArray, PackedGraph
from tritbench.quantize import Quantized
from tritbench.shapes import InputSpec

_BATCH = 500
_SUSPECTS = 1000  # images that are closest to another class: where a change shows first
_SCALES = ("scale", "negative_scale")

Run = Callable[[Collection[str], Tensor], Tensor]  # logits with these arrays rounded, of images


def half_arrays(quantized: Quantized, spec: InputSpec, images: Tensor) -> frozenset[str]:
    """Names of arrays (`1.weight.scale`, `1.bias`) for `save_trit` to store as float16.

    The class with the largest logit stays the same for each of `images`, uint8 [n, ...], the
    validation split. All arrays are tried at once; where that changes a class, one after another,
    the largest first and each twice, for one change may undo another's.
    """
    packed = pack(quantized)

    def logits(names: Collection[str], images: Tensor) -> Tensor:
        graph = _rounded_graph(packed, names).dequantized()
        return torch.cat([run(graph, spec.normalize(batch)) for batch in images.split(_BATCH)])

    return _chosen(_floats(packed), logits, images)


def _chosen(arrays: Mapping[str, NDArray[Any]], logits: Run, images: Tensor) -> frozenset[str]:
    kept = logits((), images)
    expected = kept.argmax(1)
    best = kept.topk(2).values if kept.shape[1] > 1 else kept.repeat(1, 2)
    suspects = torch.zeros(len(images), dtype=torch.bool)
    suspects[(best[:, 0] - best[:, 1]).argsort()[:_SUSPECTS]] = True
    sizes = {n: array.size for n, array in arrays.items() if np.isfinite(to_half(array)).all()}
    order = sorted(sizes, key=lambda name: -sizes[name])
    while True:
        chosen: list[str] = []
        for names in (order, *([name] for name in order + order)):
            more = [*chosen, *(name for name in names if name not in chosen)]
            if len(more) > len(chosen):
                found = logits(more, images[suspects]).argmax(1)
                chosen = more if torch.equal(found, expected[suspects]) else chosen
        wrong = logits(chosen, images).argmax(1) != expected
        if not wrong.any() or not chosen:
            return frozenset(chosen)
        if not (wrong & ~suspects).any():
            # Sums differ in their last bit with the size of a batch: too close to call.
            order.remove(chosen[-1])
        suspects |= wrong


def _floats(packed: PackedGraph) -> dict[str, NDArray[Any]]:
    """The arrays of a file that may be float16, by name."""
    arrays = {
        name: array
        for name, array in packed.graph.parameters.items()
        if name not in packed.weights and array.dtype == np.float32
    }
    for name, weight in packed.weights.items():
        scales = {f"{name}.{key}": getattr(weight, key, None) for key in _SCALES}
        arrays |= {key: scale for key, scale in scales.items() if scale is not None}
    return arrays


def _rounded_graph(packed: PackedGraph, names: Collection[str]) -> PackedGraph:
    """With these arrays as float16 would keep them."""
    parameters = {
        name: to_half(array) if name in names else array
        for name, array in packed.graph.parameters.items()
    }
    weights: dict[str, PackedArray] = {}
    for name, weight in packed.weights.items():
        changed: dict[str, Any] = {
            key: to_half(getattr(weight, key)) for key in _SCALES if f"{name}.{key}" in names
        }
        weights[name] = dataclasses.replace(weight, **changed)
    return PackedGraph(dataclasses.replace(packed.graph, parameters=parameters), weights)
