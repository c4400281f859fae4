"""A network as plain data: named values, and the operations that make them. No PyTorch here."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.graph.batch import check_batch
from tritbench.graph.ops import OPS
from tritbench.graph.shapes import LARGEST, Shape, count

MOST_NODES = 2**14
DTYPES = ("float32", "int64")
ABOUT = ("name", "module", "source")


@dataclass(frozen=True)
class Value:
    """What flows into a graph; sizes of -k are k × the batch."""

    shape: Shape
    dtype: str = "float32"


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        name: of its result.
        op: a key of `OPS`.
        inputs: names of inputs, parameters or earlier nodes; None where an optional one is missing.
        attributes: all of the operation's.
        shape: of its result.
        module: qualified name of the module it comes from.
        source: FILE:LINE of the user's code it comes from.
    """

    name: str
    op: str
    inputs: tuple[str | None, ...]
    attributes: Mapping[str, Any]
    shape: Shape
    module: str = ""
    source: str = ""


@dataclass(frozen=True)
class Graph:
    """A network in evaluation mode.

    Attributes:
        inputs: by name.
        nodes: in an order in which they can run.
        output: name of the result.
        parameters: arrays by qualified name, float32 or int64.
    """

    inputs: Mapping[str, Value]
    nodes: tuple[Node, ...]
    output: str
    parameters: Mapping[str, NDArray[Any]]

    def shapes(self) -> dict[str, Shape]:
        """Of every input, parameter and result."""
        known: dict[str, Shape] = {name: value.shape for name, value in self.inputs.items()}
        known |= {name: tuple(array.shape) for name, array in self.parameters.items()}
        return known | {node.name: node.shape for node in self.nodes}

    def products(self) -> int:
        """Multiplications for one image, those in products of matrices alone."""
        known = self.shapes()
        return sum(
            OPS[node.op].products(
                [None if name is None else known[name] for name in node.inputs],
                node.attributes,
                node.shape,
            )
            for node in self.nodes
        )

    def weights(self) -> dict[str, Node]:
        """Parameters that can become ternary, by name, each with the first node that uses it.

        They are weights of `linear`, `conv1d` and `conv2d`, and nothing else: an embedding that is
        also the last layer's weight stays as it is.
        """
        found: dict[str, Node] = {}
        others = set()
        for node in self.nodes:
            for position, name in enumerate(node.inputs):
                if position == 1 and node.op in ("linear", "conv1d", "conv2d"):
                    found.setdefault(str(name), node)
                else:
                    others.add(name)
        return {
            name: node
            for name, node in found.items()
            if name in self.parameters and name not in others
        }


def add_node(
    known: Mapping[str, Shape], node: Node, attributes: Mapping[str, Any] | None = None
) -> Node:
    """The node with all its attributes and its shape, which the shapes of its inputs decide.

    Raises:
        TritbenchError: naming the node and what is wrong with it.
    """
    where = f"{node.name} ({node.op})"
    if node.op not in OPS:
        raise TritbenchError(f"{node.name}: unknown operation {node.op!r:.80}")
    op = OPS[node.op]
    listed = op.inputs[0].endswith("*")
    least = sum(not name.endswith("?") for name in op.inputs)
    if not least <= len(node.inputs) <= (1024 if listed else len(op.inputs)):
        raise TritbenchError(f"{where}: {len(node.inputs)} inputs, expected {', '.join(op.inputs)}")
    inputs = node.inputs if listed else node.inputs + (None,) * (len(op.inputs) - len(node.inputs))
    shapes: list[Shape | None] = []
    for position, name in enumerate(inputs):
        if name is None:
            if listed or not op.inputs[position].endswith("?"):
                raise TritbenchError(f"{where}: has no {op.inputs[position if not listed else 0]}")
            shapes.append(None)
        elif name not in known:
            raise TritbenchError(f"{where}: input {name!r:.80} is not known before it")
        else:
            shapes.append(known[name])
    try:
        complete = op.complete(node.attributes if attributes is None else attributes)
        shape = op.shape(shapes, complete)
    except TritbenchError as error:
        raise TritbenchError(f"{where}: {error}") from None
    except (IndexError, TypeError, ValueError) as error:
        raise TritbenchError(f"{where}: {[list(s) for s in shapes if s]}: {error}") from None
    if not 1 <= count(shape) <= LARGEST or sum(size < 0 for size in shape) > 1 or len(shape) > 8:
        raise TritbenchError(f"{where}: gives the shape {list(shape)}")
    return dataclasses.replace(node, inputs=inputs, attributes=complete, shape=shape)


def to_json(graph: Graph) -> dict[str, Any]:
    """Plain JSON, without the parameters' values; `from_json` is its inverse.

    As short as can be, for files of two kilobytes: an input is its shape, followed by its dtype
    where that is not float32. A node is `[op, input, …, attributes, about]`: an input is the number
    of an earlier node or the name of what is no node; attributes at their default, and objects that
    are empty, are left out; `about` holds the name, module and source. The last node's result is
    the graph's.
    """
    if graph.output != graph.nodes[-1].name:
        raise TritbenchError(f"the output is {graph.output!r:.80}, expected the last node's")
    numbers = {node.name: index for index, node in enumerate(graph.nodes)}
    return {
        "inputs": {
            name: [*value.shape, *([] if value.dtype == "float32" else [value.dtype])]
            for name, value in graph.inputs.items()
        },
        "nodes": [_node_json(node, numbers) for node in graph.nodes],
    }


def _node_json(node: Node, numbers: Mapping[str, int]) -> list[Any]:
    inputs = [None if name is None else numbers.get(name, name) for name in node.inputs]
    while inputs and inputs[-1] is None:
        inputs.pop()
    attributes = OPS[node.op].shortest(node.attributes)
    about = {key: getattr(node, key) for key in ABOUT if getattr(node, key)}
    if node.name == str(numbers[node.name]):
        del about["name"]
    objects = [attributes, about] if about else [attributes] if attributes else []
    return [node.op, *inputs, *objects]


def from_json(content: Any, parameters: Mapping[str, NDArray[Any]]) -> Graph:
    """The graph that `to_json` wrote, every name, attribute and shape checked.

    Raises:
        TritbenchError: naming the first node or key that is wrong.
    """
    _keys(content, "graph", {"inputs", "nodes"})
    inputs = _inputs(content["inputs"])
    known: dict[str, Shape] = {name: value.shape for name, value in inputs.items()}
    for name, array in parameters.items():
        if name in known:
            raise TritbenchError(f"{name!r:.80} is both an input and a parameter")
        known[name] = tuple(array.shape)
    named = set(known)  # what a node may call by name
    described = content["nodes"]
    if not isinstance(described, list) or not 1 <= len(described) <= MOST_NODES:
        raise TritbenchError(f"graph.nodes: expected a list of 1 to {MOST_NODES}")
    nodes: list[Node] = []
    for entry in described:
        node = add_node(known, _node(entry, nodes, named))
        if node.name in known:
            raise TritbenchError(f"node {len(nodes)}: the name {node.name!r:.80} stands twice")
        known[node.name] = node.shape
        nodes.append(node)
    check_batch(known, tuple(nodes))
    used = {name for node in nodes for name in node.inputs}
    if unused := sorted(set(parameters) - used):
        raise TritbenchError(f"no node uses the parameter {unused[0]!r:.80}")
    return Graph(inputs, tuple(nodes), nodes[-1].name, dict(parameters))


def _node(entry: Any, earlier: list[Node], named: set[str]) -> Node:
    where = f"node {len(earlier)}"
    if not isinstance(entry, list) or not entry or not isinstance(entry[0], str):
        raise TritbenchError(f"{where}: {entry!r:.80}, expected [operation, inputs…, attributes]")
    objects: list[dict[str, Any]] = []
    inputs: list[str | None] = []
    for part in entry[1:]:
        if isinstance(part, dict) and len(objects) < 2:
            objects.append(part)
        elif objects or not (part is None or isinstance(part, str) or type(part) is int):
            raise TritbenchError(f"{where}: {part!r:.80}, expected inputs, then attributes")
        elif isinstance(part, int):
            if not 0 <= part < len(earlier):
                raise TritbenchError(f"{where}: input {part!r:.80} is no earlier node")
            inputs.append(earlier[part].name)
        elif part is not None and part not in named:
            raise TritbenchError(f"{where}: input {part!r:.80} is no input and no parameter")
        else:
            inputs.append(part)
    attributes, about = [*objects, {}, {}][:2]
    _keys(about, where, set(), set(ABOUT))
    for key, value in about.items():
        if not isinstance(value, str) or len(value) > 1000:
            raise TritbenchError(f"{where}: {key} = {value!r:.80}, expected text")
    plain = {"name": str(len(earlier)), "module": "", "source": ""}
    return Node(op=entry[0], inputs=tuple(inputs), attributes=attributes, shape=(), **plain | about)


def _inputs(content: Any) -> dict[str, Value]:
    if not isinstance(content, dict) or not 1 <= len(content) <= 64:
        raise TritbenchError("graph.inputs: expected an object of 1 to 64 inputs")
    inputs = {}
    for name, value in content.items():
        where = f"graph.inputs.{name:.80}"
        shape, dtype = value, "float32"
        if isinstance(value, list) and value and isinstance(value[-1], str):
            shape, dtype = value[:-1], value[-1]
        plain = isinstance(shape, list) and 1 <= len(shape) <= 8
        if not plain or not all(type(n) is int and n != 0 for n in shape):
            raise TritbenchError(f"{where}: shape {shape!r:.80}, expected 1 to 8 integers")
        if sum(n < 0 for n in shape) > 1 or count(tuple(shape)) > LARGEST:
            raise TritbenchError(f"{where}: shape {shape!r:.80}, expected one batch at most")
        if dtype not in DTYPES:
            expected = " or ".join(DTYPES)
            raise TritbenchError(f"{where}: dtype {dtype!r:.80}, expected {expected}")
        inputs[name] = Value(tuple(shape), dtype)
    return inputs


def _keys(content: Any, where: str, needed: set[str], optional: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    if not isinstance(content, dict):
        raise TritbenchError(f"{where}: is {type(content).__name__}, expected an object")
    if missing := sorted(needed - set(content)):
        raise TritbenchError(f"{where}: {missing[0]} is missing")
    if unknown := sorted(set(content) - needed - optional):
        raise TritbenchError(f"{where}: unknown key {unknown[0]!r:.80}")
