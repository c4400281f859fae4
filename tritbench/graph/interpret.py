"""A graph run in PyTorch, node by node: the reference for all that runs graphs faster."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph, Node
from tritbench.graph.ops import OPS
from tritbench.graph.shapes import with_batch

Tap = Callable[[Node, Sequence[Tensor | None], Tensor], None]
Operation = Callable[[Node, Sequence[Tensor | None], int], Tensor]
SIZES = {"reshape": "shape", "expand": "size"}  # attributes that are shapes


def tensors(graph: Graph) -> dict[str, Tensor]:
    """The parameters as PyTorch sees them, sharing their memory."""
    return {name: torch.from_numpy(array) for name, array in graph.parameters.items()}


def last_uses(graph: Graph) -> Iterator[tuple[Node, list[str]]]:
    """Each node with the values that nothing needs after it; parameters are not among them."""
    kept = {graph.output, *graph.parameters}
    last = {name: node.name for node in graph.nodes for name in node.inputs if name is not None}
    done: dict[str, list[str]] = {}
    for name, user in last.items():
        if name not in kept:
            done.setdefault(user, []).append(name)
    for node in graph.nodes:
        unused = [] if node.name in last or node.name in kept else [node.name]
        yield node, done.get(node.name, []) + unused


def run(
    graph: Graph,
    *inputs: Tensor,
    parameters: Mapping[str, Tensor] | None = None,
    tap: Tap | None = None,
    operation: Operation | None = None,
) -> Tensor:
    """The result for a batch of any size; what no later node needs is freed.

    Gradients flow to the `parameters` and inputs that require one; the graph's own do not.

    Args:
        graph: with one tensor of `inputs` for each of its inputs, in order.
        parameters: that stand in for the graph's own, by name.
        tap: is called with each node, its inputs and its result.
        operation: that stands in for `execute`.

    Raises:
        TritbenchError: where an input has another shape or dtype than the graph says.
    """
    batch = batch_of(graph, inputs)
    values: dict[str, Tensor] = dict(zip(graph.inputs, inputs, strict=True))
    values |= tensors(graph)
    values |= parameters or {}
    for node, finished in last_uses(graph):
        taken = [None if name is None else values[name] for name in node.inputs]
        result = (operation or execute)(node, taken, batch)
        if tap is not None:
            tap(node, taken, result)
        values[node.name] = result
        for name in finished:
            del values[name]
    return values[graph.output]


def execute(node: Node, inputs: Sequence[Tensor | None], batch: int) -> Tensor:
    """One operation on tensors whose batch is `batch`."""
    op = OPS[node.op]
    arguments: dict[str, Any] = {**node.attributes, **op.fixed}
    if node.op in SIZES:
        key = SIZES[node.op]
        arguments[key] = with_batch(tuple(arguments[key]), batch)
    if op.inputs[0].endswith("*"):
        arguments[op.inputs[0][:-1]] = list(inputs)
    else:
        # An operand that is a number is an attribute of the operand's name.
        named = zip((name.rstrip("?") for name in op.inputs), inputs, strict=True)
        arguments |= {n: x for n, x in named if x is not None or n not in arguments}
    result = getattr(torch.ops.aten, node.op)(**arguments)
    return result if isinstance(result, Tensor) else result[0]


def batch_of(graph: Graph, inputs: Sequence[Tensor]) -> int:
    """The batch of these inputs, checked against the graph's.

    Raises:
        TritbenchError: where an input has another shape or dtype than the graph says.
    """
    if len(inputs) != len(graph.inputs):
        raise TritbenchError(f"{len(inputs)} inputs, expected {', '.join(graph.inputs)}")
    batch = 1
    for x, value in zip(inputs, graph.inputs.values(), strict=True):
        for size, expected in zip(x.shape, value.shape, strict=False):
            if expected < 0 and size % -expected == 0:
                batch = size // -expected
    for x, (name, value) in zip(inputs, graph.inputs.items(), strict=True):
        if tuple(x.shape) != with_batch(value.shape, batch) or str(x.dtype) != (
            f"torch.{value.dtype}"
        ):
            raise TritbenchError(
                f"input {name}: {x.dtype} {list(x.shape)}, expected {value.dtype} "
                f"{['n' if size == -1 else size for size in value.shape]}"
            )
    return batch
