"""The normalization of pixels as part of a graph's first weights, as one deploys a network."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.graph.graph import Graph, Node, add_node

Array = NDArray[np.float64]


def fold_normalization(graph: Graph, mean: Sequence[float], std: Sequence[float]) -> Graph:
    """A graph of pixels 0..255, float32, that computes what `graph` does of normalized ones.

    A first linear takes mean and std in, a first convolution std, and mean too unless it pads:
    what it pads with is a normalized 0. What remains is one operation before them.

    Args:
        graph: with one input, [n, channels, ...].
        mean: of each channel's pixels, which are 0..1.
        std: likewise.
    """
    gain = 1 / (255 * np.asarray(std, np.float64))
    shift = -np.asarray(mean, np.float64) / np.asarray(std, np.float64)
    ((pixels, _),) = graph.inputs.items()
    first = _only_user(graph, pixels)
    before = pixels
    if first is not None and first.op == "reshape":
        before, first = first.name, _only_user(graph, first.name)
    if first is not None and first.op in ("linear", "conv2d") and first.inputs[0] == before:
        weight = str(first.inputs[1])
        alone = sum(weight in node.inputs for node in graph.nodes) == 1
        if alone and weight in graph.parameters:
            if first.op == "linear":
                return _into_linear(graph, first, gain, shift)
            if before == pixels and first.attributes["groups"] == 1:
                return _into_convolution(graph, first, pixels, gain, shift)
    scaled = _before(graph, pixels, "mul", gain)
    return _before(scaled, f"{pixels}.mul", "add", shift)


def _into_linear(graph: Graph, node: Node, gain: Array, shift: Array) -> Graph:
    weight = graph.parameters[str(node.inputs[1])].astype(np.float64)
    each = weight.shape[1] // len(gain)  # inputs of a channel
    gains, shifts = np.repeat(gain, each), np.repeat(shift, each)
    return _with(graph, node, weight * gains, weight @ shifts)


def _into_convolution(graph: Graph, node: Node, pixels: str, gain: Array, shift: Array) -> Graph:
    weight = graph.parameters[str(node.inputs[1])].astype(np.float64)
    scaled = weight * gain[:, None, None]
    if not any(node.attributes["padding"]):
        return _with(graph, node, scaled, (weight * shift[:, None, None]).sum((1, 2, 3)))
    return _before(_with(graph, node, scaled, None), pixels, "add", shift / gain)


def _with(graph: Graph, node: Node, weight: Array, more: Array | None) -> Graph:
    """The graph with another weight, and more bias, of one node."""
    name, bias = str(node.inputs[1]), node.inputs[2]
    parameters = {**graph.parameters, name: weight.astype(np.float32)}
    if more is not None:
        bias = f"{name}.pixels"
        old: Any = 0.0 if node.inputs[2] is None else graph.parameters[node.inputs[2]]
        parameters[bias] = (old + more).astype(np.float32)
    changed = dataclasses.replace(node, inputs=(node.inputs[0], name, bias))
    nodes = tuple(changed if other is node else other for other in graph.nodes)
    used = {name for other in nodes for name in other.inputs}
    kept = {name: array for name, array in parameters.items() if name in used}
    return dataclasses.replace(graph, nodes=nodes, parameters=kept)


def _before(graph: Graph, value: str, op: str, numbers: Array) -> Graph:
    """The graph with `value` changed by a number for each channel before all that uses it."""
    name = f"{value}.{op}"
    shapes = graph.shapes()
    wide = numbers.astype(np.float32).reshape(-1, *(1,) * (len(shapes[value]) - 2))
    constant = f"{name}.constant"
    known = {value: shapes[value], constant: wide.shape}
    node = add_node(known, Node(name, op, (value, constant), {}, ()))
    at = next((i + 1 for i, other in enumerate(graph.nodes) if other.name == value), 0)
    after = [
        dataclasses.replace(other, inputs=tuple(name if x == value else x for x in other.inputs))
        for other in graph.nodes[at:]
    ]
    output = name if graph.output == value else graph.output
    parameters = {**graph.parameters, constant: wide}
    return Graph(graph.inputs, (*graph.nodes[:at], node, *after), output, parameters)


def _only_user(graph: Graph, value: str) -> Node | None:
    users = [node for node in graph.nodes if value in node.inputs]
    return users[0] if len(users) == 1 and graph.output != value else None
