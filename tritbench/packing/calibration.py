"""Static ranges of activations from calibration images."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tritbench.graph.graph import Node
from tritbench.graph.interpret import run
from tritbench.packing.ranges import is_range, taken
from tritbench.packing.weights import PackedGraph, Range

IMAGES = 512  # more of them widen ranges by what is rare


@torch.inference_mode()
def calibrated(packed: PackedGraph, batches: Sequence[Tensor], pixels: bool) -> PackedGraph:
    """The graph with the least and greatest of each value that a product takes.

    Of the first IMAGES; four digits are kept, for files of two kilobytes.
    A value without a usable range (it is not finite) has none, and is scaled for each image.

    Args:
        packed: what runs, with dequantized weights in float32.
        batches: of inputs, as the graph takes them.
        pixels: whether the input is normalized pixels, whose range needs no calibration.
    """
    graph = packed.graph
    (name,) = graph.inputs
    wanted = taken(packed) - ({name} if pixels else set())
    order = [name, *(node.name for node in graph.nodes)]
    ends: dict[str, Range] = {value: (0.0, 0.0) for value in order if value in wanted}

    def widen(name: str, values: Tensor) -> None:
        if name in ends:
            low, high = (float(end) for end in torch.aminmax(values))
            least, greatest = ends[name]  # NaN stays
            ends[name] = float(np.minimum(least, low)), float(np.maximum(greatest, high))

    def tap(node: Node, _: Sequence[Tensor | None], result: Tensor) -> None:
        widen(node.name, result)

    floats = packed.dequantized()
    seen = 0
    for batch in batches:
        widen(name, batch)
        run(floats, batch, tap=tap)
        seen += len(batch)
        if seen >= IMAGES:
            break
    ranges = {name: _short(*range) for name, range in ends.items()}
    usable = {name: range for name, range in ranges.items() if is_range(*range)}
    return dataclasses.replace(packed, ranges=usable)


def _short(low: float, high: float) -> Range:
    """In few digits; of what is always 0, up to 1."""
    if low == high == 0:
        return 0, 1
    return float(f"{low:.4g}") or 0, float(f"{high:.4g}") or 0
