"""What lowering writes into: buffers and the steps that fill them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph, Node
from tritbench.packing import Normalization
from tritbench.packing.weights import PackedArray, Range
from tritbench.runtime import views
from tritbench.runtime.parts import Array, View
from tritbench.runtime.static_ranges import levels
from tritbench.runtime.steps import (
    Check,
    Copy,
    Depthwise,
    Indices,
    Normalize,
    Pad,
    Product,
    Quantize,
    Step,
)
from tritbench.runtime.views import Value

RANGE_ROWS = 16  # of a product that share a pair of least and greatest: native/ranges.h
When = Literal["always", "pixels", "floats"]  # of the two kinds of images


class UnknownError(TritbenchError):
    """A graph that the engine cannot run."""


@dataclass
class Buffer:
    """Memory for `count` elements an image of `size` bytes each; or a constant."""

    count: int
    size: int = 4
    place: str = "arena"  # or input, output, constant
    array: Array | None = None


@dataclass(frozen=True)
class Quantized:
    """Maps of 8 bits: buffers, and the padding that is in them."""

    data: int
    scale: int
    zero: int
    padding: tuple[int, ...]


@dataclass
class Builder:
    """Buffers and steps, as they are made.

    Attributes:
        graph: that is lowered; its packed weights hold nothing.
        weights: the packed ones.
        normalization: of pixels, if they can come in.
        exact: whether activations stay float32.
        ranges: of activations in static mode, by name.
        values: of nodes, by name.
        steps: with the kind of images that each is for.
        buffers: by number.
        uses: how many read a node's result.
    """

    graph: Graph
    weights: dict[str, PackedArray]
    normalization: Normalization | None
    exact: bool
    ranges: Mapping[str, Range] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    steps: list[tuple[Step, When]] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    users: dict[str, list[Node]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    known: dict[Any, Any] = field(default_factory=dict)

    def new(self, count: int, size: int = 4) -> int:
        """A buffer of so many elements for each image."""
        self.buffers.append(Buffer(count, size))
        return len(self.buffers) - 1

    def constant(self, array: NDArray[Any]) -> int:
        """A buffer that holds an array."""
        key = ("constant", id(array))
        if key not in self.known:
            plain = np.ascontiguousarray(array)
            self.buffers.append(Buffer(plain.size, plain.itemsize, "constant", plain))
            self.known[key] = (len(self.buffers) - 1, array)
        return int(self.known[key][0])

    def add(self, step: Step, when: When = "always") -> None:
        """One step more."""
        self.steps.append((step, when))

    def make(self, shape: Sequence[int], dims: views.Dims | None = None) -> Value:
        """A new value, in rows unless `dims` says otherwise."""
        return Value(self.new(math.prod(shape)), 0, views.dense(shape) if dims is None else dims)

    def take(self, name: str | None) -> Value:
        """A node's result or a parameter; the input as floats."""
        assert name is not None
        if name in self.values:
            return self.values[name]
        if name in self.graph.inputs:
            self.values[name] = self._input(name)
            return self.values[name]
        if name in self.weights:
            array: Array = self.weights[name].dequantize()
            self.known["weight", name] = array
        else:
            array = self.graph.parameters[name]
        if array.dtype != np.float32:
            raise UnknownError(f"{name} is {array.dtype}, expected float32")
        self.values[name] = Value(self.constant(array), 0, views.dense(array.shape))
        return self.values[name]

    def _input(self, name: str) -> Value:
        described = self.graph.inputs[name]
        shape = image_shape(described.shape)
        count = math.prod(shape)
        value = self.make(shape)
        if described.dtype == "int64":
            self.add(Indices(0, value.buffer, count))
            return value
        if self.normalization is None:
            self.add(Check(0, count))
            return Value(0, 0, value.dims)
        channels = shape[1]
        mean, std = (np.array(v, np.float32) for v in vars(self.normalization).values())
        step = Normalize(0, value.buffer, True, count // channels // shape[0], mean, std)
        self.add(step, "pixels")
        self.add(replace(step, pixels=False), "floats")
        return value

    def copied(self, value: Value, dims: views.Dims | None = None) -> Value:
        """The value in memory of its own, in rows unless `dims` says otherwise."""
        key = ("copy", value, dims)
        if key not in self.known:
            result = self.make(value.shape, dims)
            found = views.aligned([result, value])
            if found is None:  # what lies in rows can be cut as anything
                found = views.aligned([result, self.copied(value)])
            assert found is not None
            self.add(Copy(found[1], found[0]))
            self.known[key] = result
        return self.known[key]  # type: ignore[no-any-return]

    def plain(self, value: Value) -> Value:
        """The value in rows, without gaps."""
        return value if value.dims == views.dense(value.shape) else self.copied(value)

    def reshaped(self, value: Value, shape: Sequence[int]) -> Value:
        """Moved where that must be."""
        found = views.reshaped(value, shape)
        if found is None:
            found = views.reshaped(self.plain(value), shape)
        assert found is not None
        return found

    def maps(self, value: Value) -> View:
        """[n, channels, height, width] as a view [n, height, width, channels]."""
        last = views.permuted(value, (0, 2, 3, 1))
        view = views.single(last)
        if view is None or (view.strides[3] != 1 and view.sizes[3] != 1):
            moved = self.copied(value, views.dense(value.shape, (0, 2, 3, 1)))
            view = views.single(views.permuted(moved, (0, 2, 3, 1)))
        assert view is not None
        return view

    def rows(self, value: Value) -> tuple[View, Value]:
        """[..., n] as a view [rows, 1, 1, n] of dense rows, and the value whose rows they are."""
        inner = value.dims[-1]
        stride = 1
        for size, found in sorted(inner, key=lambda atom: atom[1]):
            fits = found == stride
            stride *= size
            if not fits:
                return self.rows(self.plain(value))
        outer = sorted((a for dim in value.dims[:-1] for a in dim), key=lambda atom: -atom[1])
        one = views.merged(outer)
        if len(one) > 1 or (one and one[0][1] < stride):
            return self.rows(self.plain(value))
        count, step = one[0] if one else (1, stride)
        return View(value.buffer, value.offset, (count, 1, 1, stride), (step, 0, 0, 1)), value

    def quantized(self, x: View, padding: tuple[int, ...], name: str | None) -> Quantized:
        """A view of maps in 8 bits, with at least this padding; of the value of this name."""
        range = self.ranges.get(str(name))
        key = ("quantized", x, range)
        found = self.known.get(key)
        if found is None or any(a < b for a, b in zip(found.padding, padding, strict=True)):
            maps, height, width, channels = x.sizes
            top, left, bottom, right = padding
            size = (height + top + bottom) * (width + left + right) * channels
            data = self.new(maps * size, 1)
            if range is None:
                found = Quantized(data, self.new(maps), self.new(maps), padding)
                pairs = self._ranges(x)
                self.add(Quantize(x, padding, data, found.scale, found.zero, *pairs, None))
            else:
                known, scale = levels(range)
                zero = self._repeated(maps, np.int32(known.zero))
                found = Quantized(data, self._repeated(maps, scale), zero, padding)
                self.add(Quantize(x, padding, data, None, None, None, 0, known))
            self.known[key] = found
        return found

    def _repeated(self, count: int, number: np.float32 | np.int32) -> int:
        """A constant of so many times the same number."""
        key = ("repeated", count, number.dtype.kind, number.item())
        if key not in self.known:
            self.known[key] = self.constant(np.full(count, number))
        return int(self.known[key])

    def _ranges(self, x: View) -> tuple[int | None, int]:
        """Where the steps that make a map leave its least and greatest; and how many pairs."""
        if x.sizes[0] != 1:
            return None, 0
        makers = [i for i, (step, _) in enumerate(self.steps) if getattr(step, "out", None) == x]
        whole = self.buffers[x.buffer].count == math.prod(x.sizes)
        rows, pairs = x.sizes[1] * x.sizes[2], 0
        ranges: int | None = None
        for i in makers if whole and rows > 1 else ():
            step, when = self.steps[i]
            if not isinstance(step, Product | Depthwise):
                return None, 0
            pairs = -(-rows // RANGE_ROWS) if isinstance(step, Product) else x.sizes[1]
            ranges = step.ranges if step.ranges is not None else ranges
            ranges = self.new(2 * pairs) if ranges is None else ranges
            self.steps[i] = replace(step, ranges=ranges), when
        return ranges, pairs

    def padded(self, x: View, padding: tuple[int, ...]) -> tuple[int, int]:
        """Float maps without gaps and with zeros around: the buffer, and where they begin."""
        maps, height, width, channels = x.sizes
        top, left, bottom, right = padding
        rows = (height * width * channels, width * channels, channels, 1)
        gaps = any(n > 1 and a != b for n, a, b in zip(x.sizes, x.strides, rows, strict=True))
        # Kernels may read a little more than there is: never of what the caller lent.
        if not any(padding) and not gaps and self.buffers[x.buffer].place == "arena":
            return x.buffer, x.offset
        key = ("padded", x, padding)
        if key not in self.known:
            out = self.new(maps * (height + top + bottom) * (width + left + right) * channels)
            self.add(Pad(x, padding, out))
            self.known[key] = out
        return self.known[key], 0


def image_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Sizes for one image."""
    return tuple(abs(size) for size in shape)
