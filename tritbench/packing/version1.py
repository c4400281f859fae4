"""Version 1 of the .trit file: a chain of layers, read as the graph that it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph, Node, Value, add_node
from tritbench.graph.shapes import count
from tritbench.packing.codecs import CODECS, Codec
from tritbench.packing.container import Arrays
from tritbench.packing.entropy import check_expansion
from tritbench.packing.network import Network, Normalization
from tritbench.packing.weights import PackedArray, PackedGraph, TernaryArray
from tritbench.shapes import ChainLayer, InputSpec, Shape, row_length

INPUT = "input"


@dataclass(frozen=True)
class PackedLayer:
    """One layer, as docs/format.md describes it.

    Attributes:
        about: plain JSON, `type` and what the type needs: linear (in, out), conv2d (in, out,
            kernel, stride, padding), affine (features), maxpool2d, avgpool2d (kernel, stride),
            relu, flatten.
        arrays: of linear and conv2d: trits int8 [out, inputs], scale float32 [rows, groups], where
            trits of -1 have scales of their own negative_scale in the same shape, and bias float32
            [out]; of affine: scale and bias float32 [features]; else none.
    """

    about: dict[str, Any]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


def read_chain(
    content: Mapping[str, Any], stored: Arrays, size: int
) -> tuple[PackedGraph, Normalization, Arrays]:
    """The layers of a file as a graph.

    Args:
        content: the metadata, checked.
        stored: the file's arrays.
        size: of the file, bytes.

    Returns:
        the graph, its normalization, and `stored` by the names that version 2 has for them.

    Raises:
        TritbenchError: naming what is wrong.
    """
    described: list[ChainLayer] = content["layers"]
    weights = sum(layer["out"] * row_length(layer) for layer in described if "in" in layer)
    check_expansion(weights, size)
    unread = dict(stored)
    floats = [_floats(index, layer, unread) for index, layer in enumerate(described)]
    # Last, since only now is it known that all shapes belong together.
    codec = CODECS[content["codec"]]
    layers = [
        PackedLayer(layer, _trits(index, layer, codec, unread) | floats[index])
        for index, layer in enumerate(described)
    ]
    if unread:
        raise TritbenchError(f"unexpected tensors {', '.join(sorted(unread))}")
    taken = content["input"]
    channels = taken["shape"][0]
    mean, std = (float(taken[key]) for key in ("mean", "std"))
    normalization = Normalization((mean,) * channels, (std,) * channels)
    named = {_name(name, described): array for name, array in stored.items()}
    return chain_graph(layers, tuple(taken["shape"])), normalization, named


def chain_network(
    layers: Sequence[PackedLayer], spec: InputSpec, classes: Sequence[str] = ()
) -> Network:
    """Layers as a network that is in no file."""
    normalization = Normalization(spec.mean, spec.std)
    return Network(chain_graph(layers, spec.shape), normalization, list(classes), "", {}, {})


def chain_graph(layers: Sequence[PackedLayer], image: Shape) -> PackedGraph:
    """What capturing and packing these layers would give; layer `i`'s weight is `layers.i.weight`.

    Raises:
        TritbenchError: for layers that do not fit each other.
    """
    chain = _Chain(image)
    for index, layer in enumerate(layers):
        chain.append(f"layers.{index}", layer)
    inputs = {INPUT: Value((-1, *image))}
    graph = Graph(inputs, tuple(chain.nodes), chain.last, chain.parameters)
    return PackedGraph(graph, chain.weights)


class _Chain:
    """Nodes so far, each on the result of the one before it."""

    def __init__(self, image: Shape) -> None:
        self.last = INPUT
        self.shapes: dict[str, Shape] = {INPUT: (-1, *image)}
        self.nodes: list[Node] = []
        self.parameters: dict[str, NDArray[Any]] = {}
        self.weights: dict[str, PackedArray] = {}

    def append(self, name: str, layer: PackedLayer) -> None:
        about, arrays = layer.about, layer.arrays
        shape = self.shapes[self.last]
        match about["type"]:
            case "linear":
                self._add("linear", self._weight(name, layer), self._bias(name, layer))
            case "conv2d":
                names = self._weight(name, layer), self._bias(name, layer)
                self._add("conv2d", *names, stride=about["stride"], padding=about["padding"])
            case "affine":
                wide = (-1, *(1,) * (len(shape) - 2))
                for op, key in (("mul", "scale"), ("add", "bias")):
                    self._add(op, self._parameter(f"{name}.{key}", arrays[key].reshape(wide)))
            case "maxpool2d" | "avgpool2d" as kind:
                op = "max_pool2d" if kind == "maxpool2d" else "avg_pool2d"
                self._add(op, kernel_size=about["kernel"], stride=about["stride"])
            case "flatten" if len(shape) > 2:
                self._add("reshape", shape=[-1, count(shape)])
            case "relu":
                self._add("relu")

    def _add(self, op: str, *names: str, **attributes: Any) -> None:
        node = Node(str(len(self.nodes)), op, (self.last, *names), attributes, ())
        self.nodes.append(add_node(self.shapes, node))
        self.last = node.name
        self.shapes[self.last] = self.nodes[-1].shape

    def _parameter(self, name: str, array: NDArray[Any]) -> str:
        self.parameters[name] = array
        self.shapes[name] = tuple(array.shape)
        return name

    def _bias(self, name: str, layer: PackedLayer) -> str:
        return self._parameter(f"{name}.bias", layer.arrays["bias"])

    def _weight(self, name: str, layer: PackedLayer) -> str:
        about, arrays = layer.about, layer.arrays
        shape = (about["out"], about["in"], *about.get("kernel", ()))
        self.weights[f"{name}.weight"] = TernaryArray(
            arrays["trits"],
            arrays["scale"],
            about["group_size"],
            shape,
            arrays.get("negative_scale"),
        )
        return self._parameter(f"{name}.weight", np.broadcast_to(np.float32(0), shape))


def _name(name: str, layers: Sequence[ChainLayer]) -> str:
    """`layers.1.trits` is `layers.1.weight.trits`."""
    _, index, key = name.split(".")
    return (
        name if key == "bias" or "in" not in layers[int(index)] else f"layers.{index}.weight.{key}"
    )


def _floats(index: int, layer: ChainLayer, unread: Arrays) -> Arrays:
    """Scale and bias of one layer as float32, taken out of `unread`."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    if layer["type"] == "affine":
        shapes = {key: [(layer["features"],)] for key in ("scale", "bias")}
    elif layer["type"] in ("linear", "conv2d"):
        groups = -(-row_length(layer) // layer["group_size"])
        shapes = {"scale": [(layer["out"], groups), (1, groups)], "bias": [(layer["out"],)]}
        if f"layers.{index}.negative_scale" in unread:
            shapes["negative_scale"] = shapes["scale"]
    found: Arrays = {}
    for key, allowed in shapes.items():
        name = f"layers.{index}.{key}"
        array = _take(unread, name)
        if array.dtype.kind != "f" or array.shape not in allowed:
            expected = " or ".join(str(list(shape)) for shape in allowed)
            raise TritbenchError(
                f"{name} is {array.dtype} {list(array.shape)}, expected floats {expected}"
            )
        if not np.isfinite(array).all():
            raise TritbenchError(f"{name} holds NaN or infinity")
        found[key] = array.astype(np.float32)
    if "negative_scale" in found and found["negative_scale"].shape != found["scale"].shape:
        raise TritbenchError(f"layers.{index}.negative_scale has not the shape of scale")
    return found


def _trits(index: int, layer: ChainLayer, codec: Codec, unread: Arrays) -> Arrays:
    if layer["type"] not in ("linear", "conv2d"):
        return {}
    name = f"layers.{index}.trits"
    packed = _take(unread, name)
    try:
        return {"trits": codec.unpack(packed, layer["out"], row_length(layer))}
    except TritbenchError as error:
        raise TritbenchError(f"{name}: {error}") from None


def _take(unread: Arrays, name: str) -> NDArray[Any]:
    if name not in unread:
        raise TritbenchError(f"{name} is missing")
    return unread.pop(name)
