"""A graph as a Python function, a line for each operation: PyTorch without modules."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tritbench.graph.graph import Graph, Node
from tritbench.graph.interpret import SIZES, tensors
from tritbench.graph.ops import OPS

# PyTorch's own bindings, which take less time than the operators that they stand for.
BINDINGS = (torch, torch._C._nn)


def straight(graph: Graph) -> Callable[[Tensor], Tensor]:
    """The graph of one input, of any batch.

    `run` does the same and looks at each node anew, which takes longer than a small operation.
    """
    ((first, _),) = graph.inputs.items()
    names = {first: "x"}
    known: dict[str, Any] = {}
    for number, (name, tensor) in enumerate(tensors(graph).items()):
        names[name] = f"p{number}"
        known[names[name]] = tensor
    lines = ["def forward(x):", " n = x.shape[0]"]
    for number, node in enumerate(graph.nodes):
        known[f"f{number}"], arguments = _call(node, _arguments(node, names))
        names[node.name] = f"v{number}"
        first_of = "[0]" if _gives_several(node) else ""
        lines.append(f" v{number} = f{number}({arguments}){first_of}")
    lines.append(f" return {names[graph.output]}")
    exec("\n".join(lines), known)
    made: Callable[[Tensor], Tensor] = known["forward"]
    return made


def _call(node: Node, arguments: Mapping[str, str]) -> tuple[Any, str]:
    """What to call, and with what: a binding takes by place what the operator takes by name."""
    operator = getattr(torch.ops.aten, node.op)
    binding = next((getattr(b, node.op) for b in BINDINGS if hasattr(b, node.op)), None)
    for overload in ("default", "Tensor"):
        schema = getattr(operator, overload)._schema if hasattr(operator, overload) else None
        taken = {a.name: a for a in schema.arguments} if schema else {}
        if binding is None or not set(arguments) <= set(taken):
            continue
        placed = [name for name, argument in taken.items() if not argument.kwarg_only]
        last = max(i for i, name in enumerate(placed) if name in arguments)
        texts = [arguments.get(n, repr(taken[n].default_value)) for n in placed[: last + 1]]
        texts += [f"{name}={text}" for name, text in arguments.items() if name not in placed]
        return binding, ", ".join(texts)
    return operator, ", ".join(f"{name}={text}" for name, text in arguments.items())


def _gives_several(node: Node) -> bool:
    operator = getattr(torch.ops.aten, node.op)
    return len(getattr(operator, operator.overloads()[0])._schema.returns) > 1


def _arguments(node: Node, names: Mapping[str, str]) -> dict[str, str]:
    """The operator's arguments by name, as Python's text; `n` is the batch."""
    op = OPS[node.op]
    found = {key: repr(value) for key, value in {**node.attributes, **op.fixed}.items()}
    if node.op in SIZES:
        sizes = node.attributes[SIZES[node.op]]
        texts = [str(size) if size >= 0 else f"n * {-size}" for size in sizes]
        found[SIZES[node.op]] = f"({', '.join(texts)},)"
    if op.inputs[0].endswith("*"):
        found[op.inputs[0][:-1]] = f"[{', '.join(names[str(name)] for name in node.inputs)}]"
        return found
    # An operand that is a number is an attribute of the operand's name.
    for key, name in zip((key.rstrip("?") for key in op.inputs), node.inputs, strict=True):
        if name is not None or key not in found:
            found[key] = "None" if name is None else names[name]
    return found
