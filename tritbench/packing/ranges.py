"""Ranges of activations in a .trit file: the least and greatest of what each product takes."""

from typing import Any

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph
from tritbench.packing.weights import PackedGraph, Range

LEAST_SPAN = 2.0**-100
MOST = 1e38  # of an end, so that float32 holds all that follows from it
_PRODUCTS = ("linear", "conv1d", "conv2d")
_SAME = ("reshape", "permute")  # operations that give what they take


def sources(graph: Graph) -> dict[str, str]:
    """For each value that is another one in another shape, that one."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        if node.op in _SAME:
            found[node.name] = found.get(str(node.inputs[0]), str(node.inputs[0]))
    return found


def taken(packed: PackedGraph) -> set[str]:
    """The values that products with packed weights take; parameters are not among them."""
    aliases = sources(packed.graph)
    products = (node for node in packed.graph.nodes if node.op in _PRODUCTS)
    names = {str(node.inputs[0]) for node in products if node.inputs[1] in packed.weights}
    return {aliases.get(name, name) for name in names} - set(packed.graph.parameters)


def describe_ranges(packed: PackedGraph) -> list[list[Any]]:
    """Plain JSON, `[value, least, greatest]` each; a value is as a node's input in the graph."""
    numbers: dict[str, Any] = {node.name: i for i, node in enumerate(packed.graph.nodes)}
    return [[numbers.get(name, name), *range] for name, range in packed.ranges.items()]


def read_ranges(content: Any, packed: PackedGraph) -> dict[str, Range]:
    """What `describe_ranges` wrote, checked.

    Raises:
        TritbenchError: naming the first entry that is wrong.
    """
    values = taken(packed)
    if not isinstance(content, list) or not 1 <= len(content) <= len(values):
        raise TritbenchError(f"ranges: expected a list of 1 to {len(values)}")
    nodes = packed.graph.nodes
    ranges: dict[str, Range] = {}
    for index, entry in enumerate(content):
        where = f"ranges.{index}"
        if not isinstance(entry, list) or len(entry) != 3:
            raise TritbenchError(f"{where}: {entry!r:.80}, expected [value, least, greatest]")
        value, low, high = entry
        name = nodes[value].name if type(value) is int and 0 <= value < len(nodes) else value
        if not isinstance(name, str) or name not in values:
            raise TritbenchError(f"{where}: {value!r:.80} is nothing that a product takes")
        if name in ranges:
            raise TritbenchError(f"{where}: {value!r:.80} has a range already")
        if not all(type(end) in (int, float) for end in (low, high)) or not is_range(low, high):
            raise TritbenchError(f"{where}: {low!r:.40} to {high!r:.40} is no range that holds 0")
        ranges[name] = float(low), float(high)
    return ranges


def is_range(low: float, high: float) -> bool:
    """In float32, with a scale that is finite and above 0."""
    return -MOST <= low <= 0 <= high <= MOST and high - low >= LEAST_SPAN
