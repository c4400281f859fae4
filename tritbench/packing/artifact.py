"""Reading the .trit file: a ternary network in safetensors, checked in full before it is used.

docs/format.md specifies it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tritbench.errors import TritbenchError
from tritbench.files import read_bytes
from tritbench.packing.container import parse_json, read_container
from tritbench.packing.graph_file import read_graph
from tritbench.packing.network import Network, Normalization, check_classes
from tritbench.packing.schema import (
    FORMAT_VERSION,
    KEY,
    check_about,
    check_graph_about,
    check_version,
)
from tritbench.packing.version1 import read_chain
from tritbench.packing.weights import PackedGraph


def load_trit(path: Path) -> Network:
    """Read a .trit file of either version and check every name, shape, code and range.

    Raises:
        TritbenchError: one line naming the file and what is wrong with it.
    """
    return read_trit(read_bytes(path), str(path))


def read_trit(data: bytes, name: str) -> Network:
    """The network in the bytes of a .trit file; `name` stands in errors.

    Raises:
        TritbenchError: one line naming the file and what is wrong with it.
    """
    with _named(name):
        stored, metadata = read_container(data)
        if set(metadata) != {KEY}:
            raise TritbenchError(f"metadata {sorted(metadata)}, expected {KEY} alone")
        content = parse_json(metadata[KEY], f"metadata {KEY}")
        normalization: Normalization | None
        if check_version(content) == FORMAT_VERSION:
            check_about(content)
            packed, normalization, stored = read_chain(content, stored, len(data))
        else:
            check_graph_about(content)
            packed = read_graph(content, content["codec"], stored, len(data))
            normalization = _normalization(content, packed)
        classes, provenance = content["classes"], content["provenance"]
        return Network(packed, normalization, classes, content["codec"], provenance, stored)


def _normalization(content: dict[str, Any], packed: PackedGraph) -> Normalization | None:
    """Checked against the graph, as the classes are."""
    check_classes(packed.graph, content["classes"])
    if "mean" not in content:
        return None
    normalization = Normalization(tuple(content["mean"]), tuple(content["std"]))
    normalization.check(packed.graph)
    return normalization


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
