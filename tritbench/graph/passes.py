"""Graphs made simpler without changing what they compute."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.graph.graph import Graph, Node, Value, add_node

FLOAT = np.float32


@dataclass(frozen=True)
class Folded:
    """A graph whose normalization went into the weights before it.

    Attributes:
        graph: with the new biases, and the weights as they were.
        gains: float64 [out] by weight: what each output's weights have to be multiplied with.
    """

    graph: Graph
    gains: dict[str, NDArray[np.float64]]

    def scaled(self) -> Graph:
        """The graph with its weights multiplied."""
        parameters = dict(self.graph.parameters)
        for name, gain in self.gains.items():
            weight = parameters[name]
            wide = gain.reshape(-1, *(1,) * (weight.ndim - 1))
            parameters[name] = (weight * wide).astype(FLOAT)
        return dataclasses.replace(self.graph, parameters=parameters)


def fold_batch_norm(graph: Graph) -> Folded:
    """Put each `batch_norm` into the linear or convolution before it; elsewhere it is mul and add.

    It goes into weights where nothing else uses their result, or the weights; in float64, rounded
    once. Where the weights are ternary, the gains belong to their scales.
    """
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    uses[graph.output] += 1
    made_by = {node.name: node for node in graph.nodes}
    replaced: dict[str, Node] = {}  # nodes that take a normalization's place, by its name
    renamed: dict[str, str] = {}
    gains: dict[str, NDArray[np.float64]] = {}
    parameters = dict(graph.parameters)
    for node in graph.nodes:
        if node.op != "batch_norm":
            continue
        gain, shift = affine(node, graph.parameters)
        before = made_by.get(str(node.inputs[0]))
        weight = str(before.inputs[1]) if before is not None and len(before.inputs) > 1 else ""
        if (
            before is not None
            and before.op in ("linear", "conv1d", "conv2d")
            and uses[before.name] == uses[weight] == 1
            and weight in parameters
            and _has_channels(before)
            and (before.inputs[2] is None or before.inputs[2] in parameters)
        ):
            old = parameters[before.inputs[2]] if before.inputs[2] is not None else 0.0
            bias = _unused(f"{weight.removesuffix('.weight')}.bias", parameters, before.inputs[2])
            parameters[bias] = (old * gain + shift).astype(FLOAT)
            gains[weight] = gain
            inputs = (before.inputs[0], weight, bias)
            replaced[before.name] = dataclasses.replace(before, inputs=inputs)
            renamed[node.name] = before.name
    return Folded(_rebuilt(graph, parameters, replaced, renamed), gains)


def section(graph: Graph, start: int, stop: int | None = None) -> Graph:
    """Its nodes from `start` to before `stop`, with the parameters that they use.

    What earlier nodes give them are its inputs, in the order of use; its output is the last's.
    """
    nodes = graph.nodes[start:stop]
    made = {node.name for node in nodes}
    used = dict.fromkeys(
        n for node in nodes for n in node.inputs if n is not None and n not in made
    )
    shapes = graph.shapes()
    inputs = {
        name: graph.inputs.get(name, Value(shapes[name]))
        for name in used
        if name not in graph.parameters
    }
    parameters = {name: graph.parameters[name] for name in used if name in graph.parameters}
    return Graph(inputs, nodes, nodes[-1].name, parameters)


def affine(
    node: Node, parameters: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A `batch_norm` as x × gain + shift, float64 [channels]."""
    weight, bias, mean, variance = (
        None if name is None else parameters[name].astype(np.float64) for name in node.inputs[1:]
    )
    assert mean is not None
    assert variance is not None
    gain = 1 / np.sqrt(variance + node.attributes["eps"])
    gain = gain if weight is None else gain * weight
    return gain, (0.0 if bias is None else bias) - mean * gain


def _has_channels(node: Node) -> bool:
    """Whether dimension 1, along which BatchNorm works, is the weight's outputs."""
    return node.op != "linear" or len(node.shape) == 2


def _unused(name: str, parameters: Mapping[str, Any], taken: str | None) -> str:
    """`name`, or what is near it where another parameter has it."""
    if name == taken or name not in parameters:
        return name
    return _unused(f"{name}_", parameters, taken)


def _rebuilt(
    graph: Graph,
    parameters: dict[str, NDArray[Any]],
    replaced: Mapping[str, Node],
    renamed: Mapping[str, str],
) -> Graph:
    """The nodes again, in order, the normalizations that are left as mul and add."""
    known = {name: value.shape for name, value in graph.inputs.items()}
    known |= {name: tuple(array.shape) for name, array in parameters.items()}
    names = dict(renamed)
    nodes: list[Node] = []

    def emit(node: Node) -> None:
        inputs = tuple(None if n is None else names.get(n, n) for n in node.inputs)
        nodes.append(add_node(known, dataclasses.replace(node, inputs=inputs)))
        known[node.name] = nodes[-1].shape

    for node in graph.nodes:
        if node.name in renamed:
            continue
        if node.op != "batch_norm":
            emit(replaced.get(node.name, node))
            continue
        wide = (-1, *(1,) * (len(node.shape) - 2))
        for key, values in zip(("gain", "shift"), affine(node, graph.parameters), strict=True):
            name = _unused(f"{node.module or node.name}.{key}", parameters, None)
            parameters[name] = values.astype(FLOAT).reshape(wide)
            known[name] = tuple(parameters[name].shape)
            taken = node.inputs[0] if key == "gain" else f"{node.name}.scaled"
            result = f"{node.name}.scaled" if key == "gain" else node.name
            op = "mul" if key == "gain" else "add"
            emit(Node(result, op, (taken, name), {}, (), node.module, node.source))
    used = {name for node in nodes for name in node.inputs}
    kept = {name: array for name, array in parameters.items() if name in used}
    return Graph(graph.inputs, tuple(nodes), names.get(graph.output, graph.output), kept)
