"""Weights of a graph as a file holds them: trits or 8-bit integers with scales. NumPy alone."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tritbench.graph.graph import Graph

Floats = NDArray[np.float32]
Range = tuple[float, float]  # least and greatest, with 0 between them


@dataclass(frozen=True)
class TernaryArray:
    """`scale × trits`, in any shape [out, ...].

    Attributes:
        trits: int8 [out, inputs] in {-1, 0, +1}.
        scale: float32 [rows, groups]; rows is 1 (all outputs share them) or `out`.
        group_size: inputs that share a scale; the last group may be shorter.
        shape: of the weight.
        negative_scale: of the trits -1, where they have their own (TTQ).
    """

    trits: NDArray[np.int8]
    scale: Floats
    group_size: int
    shape: tuple[int, ...]
    negative_scale: Floats | None = None

    def dequantize(self) -> Floats:
        """float32 in the weight's shape."""
        scale = self._spread(self.scale)
        if self.negative_scale is not None:
            scale = np.where(self.trits < 0, self._spread(self.negative_scale), scale)
        return (self.trits * scale).astype(np.float32, copy=False).reshape(self.shape)

    def scales(self) -> Floats:
        """float32 [out, groups], a row for each output also where all share one."""
        rows, groups = len(self.trits), self.scale.shape[1]
        return np.ascontiguousarray(np.broadcast_to(self.scale, (rows, groups)))

    def _spread(self, scale: Floats) -> Floats:
        """A scale for each weight, [rows, inputs]."""
        if scale.shape[1] == 1:
            return scale
        return scale.repeat(self.group_size, 1)[:, : self.trits.shape[1]]


@dataclass(frozen=True)
class IntegerArray:
    """`scale × values`, symmetric 8-bit integers with a scale for each output.

    Attributes:
        values: int8 [out, inputs] in [-127, 127].
        scale: float32 [out, 1].
        shape: of the weight.
    """

    values: NDArray[np.int8]
    scale: Floats
    shape: tuple[int, ...]

    def dequantize(self) -> Floats:
        """float32 in the weight's shape."""
        return (self.values * self.scale).astype(np.float32, copy=False).reshape(self.shape)


PackedArray = TernaryArray | IntegerArray


@dataclass(frozen=True)
class PackedGraph:
    """A graph some of whose weights are packed.

    Attributes:
        graph: its parameters hold for each packed weight zeros in its shape, which take no memory.
        weights: the packed ones, by name.
        ranges: of values that products take, by name, from calibration; perhaps of none.
    """

    graph: Graph
    weights: dict[str, PackedArray]
    ranges: dict[str, Range] = dataclasses.field(default_factory=dict)

    def dequantize(self, name: str) -> Floats:
        """A weight in float32, packed or not."""
        weight = self.weights.get(name)
        return self.graph.parameters[name] if weight is None else weight.dequantize()

    def dequantized(self) -> Graph:
        """The graph with float weights."""
        floats = {name: weight.dequantize() for name, weight in self.weights.items()}
        return dataclasses.replace(self.graph, parameters=dict(self.graph.parameters) | floats)
