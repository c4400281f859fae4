"""From a graph to steps: each operation of `OPS` in the terms of what `native/` does."""

import math
from collections.abc import Callable

from tritbench.graph.graph import Node
from tritbench.packing import Network
from tritbench.runtime import moves, products, reductions, views
from tritbench.runtime.builder import Buffer, Builder, UnknownError, image_shape
from tritbench.runtime.posts import ELEMENTWISE, elementwise
from tritbench.runtime.static_ranges import static_ranges
from tritbench.runtime.steps import Copy

Lower = Callable[[Builder, Node], None]

LOWER: dict[str, Lower] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    "linear": products.linear,
    "conv1d": products.convolution,
    "conv2d": products.convolution,
    **reductions.LOWER,
    **moves.LOWER,
}


def lower(network: Network, mode: str) -> Builder:
    """The steps of a network, its buffers and values.

    Raises:
        UnknownError: where the engine cannot run it, naming the node.
        TritbenchError: in static mode, where there are no ranges of activations.
    """
    graph = network.packed.graph
    ((_, described),) = graph.inputs.items()
    ranges = static_ranges(network) if mode == "static" else {}
    weights = dict(network.packed.weights)
    builder = Builder(graph, weights, network.normalization, mode == "exact", ranges)
    for node in graph.nodes:
        for name in node.inputs:
            if name is not None:
                builder.users.setdefault(name, []).append(node)
    size = 8 if described.dtype == "int64" else 4
    builder.buffers.append(Buffer(math.prod(image_shape(described.shape)), size, "input"))
    integers = {name for name, value in graph.inputs.items() if value.dtype == "int64"}
    for node in graph.nodes:
        if node.name in builder.done:
            continue
        if node.op not in LOWER:
            raise UnknownError(f"{node.name} ({node.op}): the engine does not know it")
        _require_floats(integers, node)
        LOWER[node.op](builder, node)
        builder.done.add(node.name)
    if graph.output in integers:
        raise UnknownError("the result is integers")
    _give_out(builder)
    return builder


def _require_floats(integers: set[str], node: Node) -> None:
    """Integers are moved, and are indices of an embedding; nothing else."""
    taken = [position for position, name in enumerate(node.inputs) if name in integers]
    if not taken or (node.op == "embedding" and taken == [1]):
        return
    if node.op not in moves.MOVES or len(taken) != len(node.inputs):
        raise UnknownError(f"{node.name} ({node.op}): of integers")
    integers.add(node.name)


def _give_out(builder: Builder) -> None:
    """The result becomes the output, in rows."""
    value = builder.values[builder.graph.output]
    buffer = builder.buffers[value.buffer]
    whole = value.offset == 0 and buffer.count == value.size and buffer.place == "arena"
    if value.dims != views.dense(value.shape) or not whole:
        result = builder.make(value.shape)
        found = views.aligned([result, value])
        assert found is not None
        builder.add(Copy(found[1], found[0]))
        value = result
    builder.buffers[value.buffer].place = "output"
