"""Reading the .trit file: a ternary network in safetensors, checked in full before it is used.

docs/format.md specifies it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.files import read_bytes
from tritbench.packing.codecs import CODECS, Codec
from tritbench.packing.container import Arrays, parse_json, read_container
from tritbench.packing.entropy import check_expansion
from tritbench.packing.graph_file import read_graph
from tritbench.packing.network import GraphNetwork, Network, Normalization, PackedLayer
from tritbench.packing.schema import GRAPH_VERSION, KEY, check_about, check_graph_about
from tritbench.shapes import InputSpec, Layer, row_length


def load_trit(path: Path) -> Network:
    """Read a .trit file of version 1 and check every shape, code and range.

    Raises:
        TritbenchError: one line naming the file and what is wrong with it.
    """
    return read_trit(read_bytes(path), str(path))


def load_graph(path: Path) -> GraphNetwork:
    """Read a .trit file of version 2 and check every name, shape, code and range.

    Raises:
        TritbenchError: one line naming the file and what is wrong with it.
    """
    return read_graph_trit(read_bytes(path), str(path))


def holds_graph(path: Path) -> bool:
    """Whether a .trit file is of version 2; its content is not checked.

    Raises:
        TritbenchError: where there is no such file, or it is no container.
    """
    with _named(str(path)):
        return _about(read_bytes(path))[1].get("format_version") == GRAPH_VERSION


def read_trit(data: bytes, name: str) -> Network:
    """The network in the bytes of a .trit file of version 1; `name` stands in errors.

    Raises:
        TritbenchError: one line naming the file and what is wrong with it.
    """
    with _named(name):
        return _read(data)


def read_graph_trit(data: bytes, name: str) -> GraphNetwork:
    """The network in the bytes of a .trit file of version 2; `name` stands in errors.

    Raises:
        TritbenchError: one line naming the file and what is wrong with it.
    """
    with _named(name):
        stored, content = _about(data)
        check_graph_about(content)
        packed = read_graph(content, content["codec"], stored, len(data))
        outputs = packed.graph.shapes()[packed.graph.output][-1]
        if len(content["classes"]) != outputs:
            found = len(content["classes"])
            raise TritbenchError(f"{found} classes, expected {outputs}, the network's outputs")
        normalization = None
        if "mean" in content:
            normalization = Normalization(tuple(content["mean"]), tuple(content["std"]))
            normalization.check(packed.graph)
        return GraphNetwork(
            packed,
            normalization,
            content["classes"],
            content["codec"],
            content["provenance"],
            stored,
        )


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except TritbenchError as error:
        if str(error).startswith(name):
            raise
        # The file chose some of these characters.
        reason = "".join(c if c.isprintable() else "?" for c in str(error)[:400])
        raise TritbenchError(f"{name}: not a valid .trit file: {reason}") from None


def _about(data: bytes) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the metadata of a file."""
    stored, metadata = read_container(data)
    if set(metadata) != {KEY}:
        raise TritbenchError(f"metadata {sorted(metadata)}, expected {KEY} alone")
    return stored, parse_json(metadata[KEY], f"metadata {KEY}")


def _read(data: bytes) -> Network:
    stored, content = _about(data)
    check_about(content)
    codec = CODECS[content["codec"]]
    described: list[Layer] = content["layers"]
    weights = sum(layer["out"] * row_length(layer) for layer in described if "in" in layer)
    check_expansion(weights, len(data))
    unread = dict(stored)
    floats = [_floats(index, layer, unread) for index, layer in enumerate(described)]
    # Last, since only now is it known that all shapes belong together.
    layers = [
        PackedLayer(layer, _trits(index, layer, codec, unread) | floats[index])
        for index, layer in enumerate(described)
    ]
    if unread:
        raise TritbenchError(f"unexpected tensors {', '.join(sorted(unread))}")
    taken = content["input"]
    depth, height, width = taken["shape"]
    mean, std = ((float(taken[key]),) * depth for key in ("mean", "std"))
    spec = InputSpec((depth, height, width), mean, std)
    classes, provenance = content["classes"], content["provenance"]
    return Network(layers, spec, classes, content["codec"], provenance, stored)


def _floats(index: int, layer: Layer, unread: Arrays) -> Arrays:
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


def _trits(index: int, layer: Layer, codec: Codec, unread: Arrays) -> Arrays:
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
