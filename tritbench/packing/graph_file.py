"""Version 2 of the .trit file: a graph. `artifact.py` reads and writes what all versions share.

Each parameter of the graph is one array of its name (float32, float16 or int64), or packed:
NAME.trits with NAME.scale (and NAME.negative_scale), or NAME.int8 with NAME.scale.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph, from_json, to_json
from tritbench.graph.passes import fold_batch_norm
from tritbench.packing.codecs import CODECS
from tritbench.packing.container import Arrays
from tritbench.packing.entropy import check_expansion
from tritbench.packing.ranges import describe_ranges, read_ranges
from tritbench.packing.weights import IntegerArray, PackedArray, PackedGraph, TernaryArray

if TYPE_CHECKING:
    from tritbench.quantize import Quantized, QuantizedWeight

MOST_SIZE = 2**31  # of one dimension of a weight


def pack(quantized: "Quantized") -> PackedGraph:
    """What inference runs of a quantized network; weights kept in float16 are not packed."""
    packed = pack_graph(quantized.graph, packed_arrays(quantized.weights))
    parameters = dict(packed.graph.parameters)
    # As they are stored.
    parameters |= {name: to_half(parameters[name]) for name in half_weights(quantized)}
    return PackedGraph(dataclasses.replace(packed.graph, parameters=parameters), packed.weights)


def half_weights(quantized: "Quantized") -> list[str]:
    """Names of the weights kept in float16."""
    from tritbench.quantize.kept import HalfWeight  # here, for reading does without PyTorch

    return [n for n, weight in quantized.weights.items() if isinstance(weight, HalfWeight)]


def to_half(array: NDArray[Any]) -> NDArray[np.float32]:
    """As float16 holds it; what it cannot becomes infinite."""
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)


def packed_arrays(weights: Mapping[str, "QuantizedWeight"]) -> dict[str, PackedArray]:
    """Quantized weights as a file holds them, by name; those in float16 are not among them."""
    from tritbench.quantize.kept import IntegerWeight  # here, for reading does without PyTorch
    from tritbench.quantize.ternary import TernaryWeight

    arrays: dict[str, PackedArray] = {}
    for name, weight in weights.items():
        match weight:
            case TernaryWeight():
                arrays[name] = TernaryArray(
                    weight.trits.flatten(1).numpy(),
                    weight.scale.numpy(),
                    weight.group_size,
                    tuple(weight.trits.shape),
                    None if weight.negative_scale is None else weight.negative_scale.numpy(),
                )
            case IntegerWeight():
                values = weight.values.flatten(1).numpy()
                scale, shape = weight.scale.numpy(), tuple(weight.values.shape)
                arrays[name] = IntegerArray(values, scale, shape)
    return arrays


def pack_graph(graph: Graph, weights: Mapping[str, PackedArray]) -> PackedGraph:
    """What inference runs: normalization folded into scales and biases, names as short as can be.

    Args:
        graph: captured.
        weights: that are packed, by name; they may be those of a graph with normalization.
    """
    folded = fold_batch_norm(graph)
    packed = {
        name: _multiplied(weight, folded.gains[name]) if name in folded.gains else weight
        for name, weight in weights.items()
    }
    parameters = dict(folded.scaled().parameters)
    parameters |= {name: _zeros(weight.shape) for name, weight in packed.items()}
    return PackedGraph(_short(dataclasses.replace(folded.graph, parameters=parameters)), packed)


def _multiplied(weight: PackedArray, gain: NDArray[np.float64]) -> PackedArray:
    """Each output times its gain."""
    if isinstance(weight, IntegerArray):
        return dataclasses.replace(weight, scale=(weight.scale * gain[:, None]).astype(np.float32))
    scales = {
        key: (scale * gain[:, None]).astype(np.float32)
        for key in ("scale", "negative_scale")
        if (scale := getattr(weight, key)) is not None
    }
    return dataclasses.replace(weight, **scales)


def _zeros(shape: tuple[int, ...]) -> NDArray[Any]:
    return np.broadcast_to(np.float32(0), shape)


def _short(graph: Graph) -> Graph:
    """Nodes named by their number, one input `x`, without where they come from."""
    names = {node.name: str(index) for index, node in enumerate(graph.nodes)}
    if len(graph.inputs) == 1:
        names |= dict.fromkeys(graph.inputs, "x")
    if set(names.values()) & set(graph.parameters):  # a parameter that is called like a number
        names = {name: f"value {short}" for name, short in names.items()}
    nodes = tuple(
        dataclasses.replace(
            node,
            name=names[node.name],
            inputs=tuple(None if n is None else names.get(n, n) for n in node.inputs),
            module="",
            source="",
        )
        for node in graph.nodes
    )
    inputs = {names.get(name, name): value for name, value in graph.inputs.items()}
    return Graph(inputs, nodes, names[graph.output], graph.parameters)


def graph_arrays(
    packed: PackedGraph, codec: str, half: Collection[str] = ()
) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of a file, and the keys `inputs`, `nodes` and `weights` of its metadata.

    Args:
        packed: what `pack_graph` made.
        codec: a key of CODECS.
        half: names of arrays to store as float16.

    Raises:
        TritbenchError: naming an array with a value that is not finite, or one of `half` that is no
            array of the file.
    """
    arrays: Arrays = {}
    for name, array in packed.graph.parameters.items():
        weight = packed.weights.get(name)
        match weight:
            case None:
                arrays[name] = np.asarray(array)
            case TernaryArray():
                arrays[f"{name}.trits"] = CODECS[codec].pack(weight.trits)
                arrays[f"{name}.scale"] = weight.scale
                if weight.negative_scale is not None:
                    arrays[f"{name}.negative_scale"] = weight.negative_scale
            case IntegerArray():
                arrays[f"{name}.int8"] = weight.values
                arrays[f"{name}.scale"] = weight.scale
    for name in half:
        if name not in arrays:
            raise TritbenchError(f"half: {name!r} is no array; expected one of {', '.join(arrays)}")
        with np.errstate(over="ignore"):
            arrays[name] = arrays[name].astype(np.float16)
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise TritbenchError(f"{name} holds NaN or infinity as {array.dtype}")
    about = to_json(packed.graph) | {"weights": describe_weights(packed)}
    if packed.ranges:
        about["ranges"] = describe_ranges(packed)
    return arrays, about


def describe_weights(packed: PackedGraph) -> dict[str, Any]:
    """The packed weights as plain JSON: sizes, and the group size where rows have several."""
    described: dict[str, Any] = {}
    for name, weight in packed.weights.items():
        described[name] = [*weight.shape]
        if isinstance(weight, TernaryArray) and weight.group_size != weight.trits.shape[1]:
            described[name].append({"group_size": weight.group_size})
    return described


def read_graph(content: Mapping[str, Any], codec: str, stored: Arrays, size: int) -> PackedGraph:
    """The graph in a file's metadata and arrays.

    Args:
        content: the metadata, with `inputs`, `nodes`, `weights` and perhaps `ranges`.
        codec: a key of CODECS.
        stored: the file's arrays.
        size: of the file, bytes.

    Raises:
        TritbenchError: naming what is wrong.
    """
    unread = dict(stored)
    described = content["weights"]
    if not isinstance(described, dict) or len(described) > 2**14:
        raise TritbenchError("weights: expected an object")
    about = {name: _weight(name, entry) for name, entry in described.items()}
    shapes = {name: shape for name, (shape, _) in about.items()}
    check_expansion(sum(math.prod(shape) for shape in shapes.values()), size)
    packed = {
        name: _take_packed(name, shape, group_size, codec, unread)
        for name, (shape, group_size) in about.items()
    }
    parameters: dict[str, NDArray[Any]] = {}
    for name, array in unread.items():
        if name in packed or array.dtype not in (np.float32, np.float16, np.int64):
            raise TritbenchError(f"{name} is {array.dtype}, expected float32, float16 or int64")
        _require_finite(name, array)
        parameters[name] = array.astype(np.int64 if array.dtype == np.int64 else np.float32)
    found = packed_graph({key: content[key] for key in ("inputs", "nodes")}, packed, parameters)
    _require_indices(found.graph)
    if "ranges" in content:
        found = dataclasses.replace(found, ranges=read_ranges(content["ranges"], found))
    return found


def packed_graph(
    content: Mapping[str, Any],
    weights: Mapping[str, PackedArray],
    parameters: Mapping[str, NDArray[Any]],
) -> PackedGraph:
    """The graph in plain JSON, as `to_json` writes it, on packed weights and other parameters.

    Raises:
        TritbenchError: naming the first node or key that is wrong.
    """
    zeros = {name: _zeros(weight.shape) for name, weight in weights.items()}
    return PackedGraph(from_json(content, zeros | dict(parameters)), dict(weights))


def _weight(name: str, entry: Any) -> tuple[tuple[int, ...], int | None]:
    """The shape, and the group size where there is one."""
    where = f"weights.{name:.80}"
    shape, group_size = entry, None
    if isinstance(entry, list) and entry and isinstance(entry[-1], dict):
        shape = entry[:-1]
        if set(entry[-1]) != {"group_size"}:
            raise TritbenchError(f"{where}: expected sizes and group_size")
        group_size = entry[-1]["group_size"]
    plain = isinstance(shape, list) and 2 <= len(shape) <= 4
    if not plain or not all(type(n) is int and 1 <= n <= MOST_SIZE for n in shape):
        raise TritbenchError(f"{where} = {shape!r:.80}: expected 2 to 4 sizes")
    if group_size is not None and not (
        type(group_size) is int and 1 <= group_size <= math.prod(shape[1:])
    ):
        raise TritbenchError(f"{where}: group_size = {group_size!r:.80}")
    return tuple(shape), group_size


def _take_packed(
    name: str, shape: tuple[int, ...], group_size: int | None, codec: str, unread: Arrays
) -> PackedArray:
    rows, columns = shape[0], math.prod(shape[1:])
    values = unread.pop(f"{name}.int8", None)
    if values is not None:
        if values.dtype != np.int8 or values.shape != (rows, columns) or group_size:
            raise TritbenchError(f"{name}.int8 is not int8 {[rows, columns]}")
        scale = _take_scale(f"{name}.scale", [(rows, 1)], unread)
        if (values == -128).any():
            raise TritbenchError(f"{name}.int8 holds -128, expected -127 to 127")
        return IntegerArray(values, scale, shape)
    group_size = group_size or columns
    groups = -(-columns // group_size)
    allowed = [(rows, groups), (1, groups)]
    scale = _take_scale(f"{name}.scale", allowed, unread)
    negative = None
    if f"{name}.negative_scale" in unread:
        negative = _take_scale(f"{name}.negative_scale", [scale.shape], unread)
    packed = unread.pop(f"{name}.trits", None)
    if packed is None:
        raise TritbenchError(f"{name}.trits is missing")
    try:
        trits = CODECS[codec].unpack(packed, rows, columns)
    except TritbenchError as error:
        raise TritbenchError(f"{name}.trits: {error}") from None
    return TernaryArray(trits, scale, group_size, shape, negative)


def _take_scale(name: str, allowed: list[Any], unread: Arrays) -> NDArray[np.float32]:
    array = unread.pop(name, None)
    if array is None:
        raise TritbenchError(f"{name} is missing")
    if array.dtype.kind != "f" or array.shape not in allowed:
        expected = " or ".join(str(list(shape)) for shape in allowed)
        raise TritbenchError(f"{name} is {array.dtype} {list(array.shape)}, expected {expected}")
    _require_finite(name, array)
    return array.astype(np.float32)


def _require_finite(name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise TritbenchError(f"{name} holds NaN or infinity")


def _require_indices(graph: Graph) -> None:
    """Indices in a file lie within what they index."""
    shapes = graph.shapes()
    for node in graph.nodes:
        if node.op == "index_select" and node.inputs[1] in graph.parameters:
            index = graph.parameters[str(node.inputs[1])]
            size = shapes[str(node.inputs[0])][node.attributes["dim"]]
            if index.dtype != np.int64 or index.min() < 0 or index.max() >= size:
                raise TritbenchError(f"{node.inputs[1]} has an index beyond {size}")
