"""`tritbench inspect` of a .trit file that holds a graph: its operations, sizes and weights."""

from typing import Any

from tritbench.graph.graph import Graph, Node
from tritbench.graph.ops import OPS
from tritbench.graph.shapes import Shape
from tritbench.packing import GraphNetwork
from tritbench.packing.weights import IntegerArray, PackedArray

_HEADINGS = ("", "operation", "result", "weight", "kind", "weights", "bytes", "products")


def describe_graph(network: GraphNetwork, file_bytes: int) -> dict[str, Any]:
    """Plain JSON: the operations in order, and sizes in bytes; `products` are for one image."""
    graph = network.packed.graph
    shapes = graph.shapes()
    nodes = [_node(node, graph, shapes, network) for node in graph.nodes]
    weights = sum(node.get("weights", 0) for node in nodes)
    stored = sum(array.nbytes for array in network.stored.values())
    floats = 4 * sum(array.size for array in graph.parameters.values())
    return {
        "codec": network.codec,
        "inputs": {name: [*_text(value.shape)] for name, value in graph.inputs.items()},
        "classes": network.classes,
        "operations": nodes,
        "weights": weights,
        "products": graph.products(),
        "bytes": stored,
        "file_bytes": file_bytes,
        "float32_bytes": floats,
        "compression": floats / max(stored, 1),
        "provenance": network.provenance,
    }


def _node(
    node: Node, graph: Graph, shapes: dict[str, Shape], network: GraphNetwork
) -> dict[str, Any]:
    facts: dict[str, Any] = {"operation": node.op, "result": _text(node.shape)}
    given: list[Any] = [None if name is None else shapes[name] for name in node.inputs]
    if products := OPS[node.op].products(given, node.attributes, node.shape):
        facts["products"] = products
    for name in node.inputs:
        if name in network.packed.weights:
            packed = network.packed.weights[name]
            facts |= {"weight": name, "kind": _kind(packed)}
            facts["weights"] = graph.parameters[name].size
            facts["bytes"] = sum(
                array.nbytes
                for key, array in network.stored.items()
                if key.rpartition(".")[0] == name
            )
    return facts


def _kind(packed: PackedArray) -> str:
    return "int8" if isinstance(packed, IntegerArray) else "ternary"


def _text(shape: Shape) -> list[str | int]:
    """Sizes, the batch as n."""
    return ["n" if size == -1 else f"{-size}n" if size < 0 else size for size in shape]


def graph_table(facts: dict[str, Any]) -> str:
    """The facts for a reader."""
    rows = [_HEADINGS, *(_row(index, node) for index, node in enumerate(facts["operations"]))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(
            cell.ljust(width) if 1 <= column <= 4 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    inputs = (f"{name} {_times(shape)}" for name, shape in facts["inputs"].items())
    return "\n".join(
        [
            *lines,
            "",
            f"inputs      {', '.join(inputs)}",
            f"classes     {len(facts['classes'])}",
            f"codec       {facts['codec']}",
            f"products    {facts['products']:,} for one image",
            f"bytes       {facts['bytes']:,}: {facts['compression']:.1f}× smaller than float32 "
            f"({facts['float32_bytes']:,})",
            f"file        {facts['file_bytes']:,} bytes",
        ]
    )


def _row(index: int, node: dict[str, Any]) -> tuple[str, ...]:
    numbers = (f"{node[key]:,}" if key in node else "" for key in ("weights", "bytes", "products"))
    names = (node.get(key, "") for key in ("weight", "kind"))
    return (str(index), node["operation"], _times(node["result"]), *names, *numbers)


def _times(shape: list[Any]) -> str:
    return "×".join(map(str, shape))
