"""The .trit file: a ternary network in safetensors, checked in full before it is used.

docs/format.md specifies it.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.files import read_bytes, write_atomic
from tritbench.packing.codecs import CODECS, Codec
from tritbench.packing.container import Arrays, parse_json, read_container, write_container
from tritbench.packing.entropy import check_expansion
from tritbench.packing.graph_file import graph_arrays, pack_graph, read_graph, ternary_arrays
from tritbench.packing.network import GraphNetwork, Network, Normalization, PackedLayer
from tritbench.packing.schema import (
    FORMAT_VERSION,
    GRAPH_VERSION,
    check_about,
    check_graph_about,
)
from tritbench.packing.weights import PackedGraph
from tritbench.shapes import InputSpec, Layer, check_chain, row_length

if TYPE_CHECKING:
    from tritbench.quantize import Quantized, QuantizedGraph

KEY = "tritbench"
PROVENANCE_SHARE = 0.005  # of a file; where provenance would take more, it is shortened to digests


def save_trit(
    path: Path,
    quantized: "Quantized",
    spec: InputSpec,
    classes: list[str],
    provenance: Mapping[str, Any],
    codec: str = "base3",
    half: Collection[str] = (),
) -> None:
    """Fold and pack a quantized network into `path`; the same network gives the same bytes.

    Args:
        path: of the file.
        quantized: the network.
        spec: what it takes.
        classes: one name for each logit.
        provenance: plain JSON; objects in it become digests where the file is small.
        codec: a key of CODECS.
        half: names of scales and biases to store as float16 (`layers.1.scale`).

    Raises:
        TritbenchError: naming an array with a value that is not finite, or layers that do not
            follow one another.
    """
    try:
        write_atomic(path, trit_bytes(quantized, spec, classes, provenance, codec, half))
    except TritbenchError as error:
        raise TritbenchError(f"{path}: {error}") from None


def trit_bytes(
    quantized: "Quantized",
    spec: InputSpec,
    classes: list[str],
    provenance: Mapping[str, Any],
    codec: str = "base3",
    half: Collection[str] = (),
) -> bytes:
    """What `save_trit` writes."""
    from tritbench.packing.fold import fold  # here, for reading does without PyTorch

    layers = fold(quantized)
    mean, std = spec.shared
    check_chain([layer.about for layer in layers], spec.shape, len(classes))
    arrays: Arrays = {}
    for index, layer in enumerate(layers):
        for key, array in layer.arrays.items():
            name = f"layers.{index}.{key}"
            if key == "trits":
                arrays[name] = CODECS[codec].pack(array)
                continue
            with np.errstate(over="ignore"):
                arrays[name] = array.astype(np.float16) if name in half else array
            if not np.isfinite(arrays[name]).all():
                raise TritbenchError(f"{name} holds NaN or infinity as {arrays[name].dtype}")
    about = {
        "format_version": FORMAT_VERSION,
        "codec": codec,
        "layers": [_shortest(layer.about) for layer in layers],
        "input": {"shape": spec.shape, "mean": _float32(mean), "std": _float32(std)},
        "classes": classes,
    }
    return _file(arrays, about, provenance)


def graph_trit_bytes(
    packed: PackedGraph,
    normalization: Normalization | None,
    classes: list[str],
    provenance: Mapping[str, Any],
    codec: str = "base3",
    half: Collection[str] = (),
) -> bytes:
    """A .trit file of version 2: what `load_graph` reads.

    Args:
        packed: what `pack_graph` made.
        normalization: of uint8 images; none where the network takes its input as it is.
        classes: one name for each logit.
        provenance: plain JSON; objects in it become digests where the file is small.
        codec: a key of CODECS.
        half: names of arrays to store as float16.

    Raises:
        TritbenchError: naming an array with a value that is not finite.
    """
    arrays, described = graph_arrays(packed, codec, half)
    about: dict[str, Any] = {"format_version": GRAPH_VERSION, "codec": codec, **described}
    if normalization is not None:
        about |= {k: [_float32(n) for n in v] for k, v in vars(normalization).items()}
    about["classes"] = classes
    return _file(arrays, about, provenance)


def save_graph(
    path: Path,
    quantized: "QuantizedGraph",
    classes: list[str],
    normalization: Normalization | None = None,
    provenance: Mapping[str, Any] | None = None,
    codec: str = "base3",
) -> None:
    """Write what `quantize_graph` made as a .trit file of version 2.

    Args:
        path: of the file.
        quantized: the graph and its ternary weights.
        classes: one name for each logit.
        normalization: of uint8 images; none where the network takes its input as it is.
        provenance: plain JSON about where the network comes from.
        codec: a key of CODECS.

    Raises:
        TritbenchError: naming an array with a value that is not finite.
    """
    packed = pack_graph(quantized.graph, ternary_arrays(quantized.weights))
    try:
        data = graph_trit_bytes(packed, normalization, classes, provenance or {}, codec)
    except TritbenchError as error:
        raise TritbenchError(f"{path}: {error}") from None
    write_atomic(path, data)


def _file(arrays: Arrays, about: dict[str, Any], provenance: Mapping[str, Any]) -> bytes:
    budget = PROVENANCE_SHARE * sum(array.nbytes for array in arrays.values())
    whole = len(_json(_json(provenance))) <= budget
    about["provenance"] = provenance if whole else {k: _digest(v) for k, v in provenance.items()}
    return write_container(arrays, {KEY: _json(about)})


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


def _shortest(layer: Layer) -> Layer:
    """Without the group size where it is the whole row, as it mostly is."""
    if layer.get("group_size") == (row_length(layer) if "in" in layer else None):
        return {key: value for key, value in layer.items() if key != "group_size"}
    return layer


def _float32(value: float) -> float:
    """The shortest decimal that float32 rounds to the same number."""
    return float(str(np.float32(value)))


def _digest(value: Any) -> Any:
    if isinstance(value, dict):
        canonical = json.dumps(value, separators=(",", ":"), sort_keys=True)
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()[:16]
    return value


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
