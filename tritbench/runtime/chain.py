"""A graph that is a chain, as the layers that the engine runs."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Node
from tritbench.graph.shapes import Shape, count
from tritbench.packing import Network, PackedLayer
from tritbench.packing.weights import PackedGraph, TernaryArray
from tritbench.shapes import InputSpec, check_chain

PLAIN: dict[str, dict[str, Any]] = {
    "linear": {},
    "conv2d": {"dilation": [1, 1], "groups": 1},
    "relu": {},
    "max_pool2d": {"padding": [0, 0], "dilation": [1, 1], "ceil_mode": False},
    "avg_pool2d": {"padding": [0, 0], "ceil_mode": False, "divisor_override": None},
    "mul": {"other": None},
    "add": {"other": None},
    "reshape": {},
}


@dataclass(frozen=True)
class Chain:
    """What the engine runs.

    Attributes:
        layers: in order.
        input: the images it takes.
        classes: one name for each logit.
    """

    layers: list[PackedLayer]
    input: InputSpec
    classes: list[str]


def chain_of(network: Network) -> Chain | None:
    """The layers of a network that is a chain of those that the engine has; else none.

    The normalization must be the same for all channels, and one layer at least ternary.
    """
    graph = network.packed.graph
    (name, value), *others = graph.inputs.items()
    normalization = network.normalization
    if others or len(value.shape) != 4 or normalization is None:
        return None
    _, channels, height, width = value.shape
    spec = InputSpec((channels, height, width), normalization.mean, normalization.std)
    names = [name, *(node.name for node in graph.nodes)]
    follows = [node.inputs[0] for node in graph.nodes] == names[:-1]
    others_used = [n for node in graph.nodes for n in node.inputs[1:] if n in names]
    if not follows or others_used or graph.output != names[-1]:
        return None
    try:
        _ = spec.shared
        layers = _layers(graph.nodes, value.shape, network.packed)
        check_chain([layer.about for layer in layers], spec.shape, len(network.classes))
    except TritbenchError:
        return None
    ternary = any("trits" in layer.arrays for layer in layers)
    return Chain(layers, spec, network.classes) if ternary else None


def _layers(nodes: tuple[Node, ...], shape: Shape, packed: PackedGraph) -> list[PackedLayer]:
    """Raises a TritbenchError for a node that is no layer."""
    layers: list[PackedLayer] = []
    scaled = None
    for node, following in pairwise((*nodes, None)):
        assert node is not None
        plain = PLAIN.get(node.op)
        if plain is None or any(node.attributes[key] != value for key, value in plain.items()):
            raise TritbenchError(f"{node.op} is no layer of a chain")
        if node.op == "mul" and following is not None and following.op == "add":
            scaled = node
        elif node.op == "add" and scaled is not None:
            layers.append(_affine(scaled, node, packed))
            scaled = None
        else:
            layers.append(_layer(node, shape, packed))
        shape = node.shape
    return layers


def _affine(mul: Node, add: Node, packed: PackedGraph) -> PackedLayer:
    """x × scale + bias for each channel."""
    channels = mul.shape[1]
    wide = (channels, *(1,) * (len(mul.shape) - 2))
    parameters = packed.graph.parameters
    names = [str(node.inputs[1]) for node in (mul, add)]
    arrays = [None if name in packed.weights else parameters.get(name) for name in names]
    if any(array is None or array.shape != wide for array in arrays):
        raise TritbenchError("mul and add are not of channels")
    scale, bias = (np.asarray(array).reshape(-1) for array in arrays)
    return PackedLayer({"type": "affine", "features": channels}, {"scale": scale, "bias": bias})


def _layer(node: Node, shape: Shape, packed: PackedGraph) -> PackedLayer:
    about = node.attributes
    match node.op:
        case "relu":
            return PackedLayer({"type": "relu"})
        case "reshape" if node.shape == (-1, count(shape)):
            return PackedLayer({"type": "flatten"})
        case "max_pool2d" | "avg_pool2d":
            kind = "maxpool2d" if node.op == "max_pool2d" else "avgpool2d"
            windows = {"kernel": about["kernel_size"], "stride": about["stride"]}
            return PackedLayer({"type": kind, **windows})
        case "linear" | "conv2d":
            return _weighted(node, packed)
    raise TritbenchError(f"{node.op} is no layer of a chain")


def _weighted(node: Node, packed: PackedGraph) -> PackedLayer:
    _, name, bias = node.inputs
    weight = packed.weights.get(str(name))
    if not isinstance(weight, TernaryArray):
        raise TritbenchError(f"{name} is not ternary")
    out, taken, *kernel = weight.shape
    given: dict[str, Any] = {"type": node.op, "in": taken, "out": out}
    if kernel:
        given |= {"kernel": kernel, **{k: node.attributes[k] for k in ("stride", "padding")}}
    arrays: dict[str, NDArray[Any]] = {"trits": weight.trits, "scale": weight.scale}
    arrays["bias"] = np.zeros(out, np.float32) if bias is None else packed.graph.parameters[bias]
    if weight.negative_scale is not None:
        arrays["negative_scale"] = weight.negative_scale
    return PackedLayer(given | {"group_size": weight.group_size}, arrays)
