"""Reading an exported program: constants are computed, all else becomes nodes of a graph."""

import operator
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from tritbench.errors import TritbenchError
from tritbench.graph.graph import DTYPES, Graph, Node, Value, add_node
from tritbench.graph.lower import Name, UnsupportedError, plainly, read_shape
from tritbench.graph.lower_shapes import SHAPE_LOWERINGS
from tritbench.graph.lower_values import VALUE_LOWERINGS
from tritbench.graph.ops import OPS
from tritbench.graph.shapes import Shape

LOWERINGS = SHAPE_LOWERINGS | VALUE_LOWERINGS
VIEWS = {
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"),
    *("expand", "expand_as", "permute", "transpose", "t", "swapaxes", "swapdims", "movedim"),
    *("select", "slice", "narrow", "chunk", "split", "split_with_sizes", "unbind", "getitem"),
    *("contiguous", "to", "alias", "detach", "dropout"),
}


class _AliasedError(Exception):
    """An in-place operation changes a tensor that is known by another name as well."""


def read_program(program: ExportedProgram) -> Graph:
    """The graph of an exported program, decomposed as far as its operations have no row."""
    first: UnsupportedError | None = None
    while True:
        try:
            return _ProgramReader(program).read()
        except _AliasedError:
            program = program.run_decompositions({})
        except UnsupportedError as error:
            first = first or error  # names what the user wrote
            known = torch.export.default_decompositions()
            table = {t: known[t] for t in error.targets if t in known}
            if not table:
                raise first from None
            program = program.run_decompositions(table)


class _ProgramReader:
    """Reads one exported program; `values` holds what each of its nodes is here.

    That is a name (of a value of the graph), a tensor (a constant, not yet named), a list of such,
    or a number.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.values: dict[fx.Node, Any] = {}
        self.shapes: dict[str, Shape] = {}
        self.inputs: dict[str, Value] = {}
        self.nodes: list[Node] = []
        self.parameters: dict[str, Tensor] = {}
        self.named: dict[tuple[Any, ...], str] = {}  # constants that have a name
        self.problems: dict[str, Any] = {}
        self.at: fx.Node | None = None

    def read(self) -> Graph:
        """Every node in turn; all problems in one error."""
        signature = self.program.graph_signature
        state = {**self.program.state_dict, **self.program.constants}
        if any(_changes_in_place(node) for node in self.program.graph.nodes):
            # Constants are computed for real, and the module stays as it is.
            state = {name: tensor.clone() for name, tensor in state.items()}
        held = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        order = {node: i for i, node in enumerate(self.program.graph.nodes)}
        for node in self.program.graph.nodes:
            self.at = node
            if node.op == "placeholder":
                if node.name in held:
                    name = held[node.name]
                    self.values[node] = tensor = state[name].detach()
                    self.named.setdefault(_identity(tensor), name)
                else:
                    self._input(node)
            elif node.op == "call_function":
                self._call(node, order)
        if self.problems:
            text = "; ".join(self.problems)
            raise UnsupportedError(f"no such operation here: {text}", list(self.problems.values()))
        (returned,) = (n for n in self.program.graph.nodes if n.op == "output")
        results = returned.args[0]
        if len(signature.user_outputs) != 1:
            raise TritbenchError(
                f"the network gives {len(signature.user_outputs)} outputs, expected one tensor"
            )
        output = self.values[results[-1]]
        if not isinstance(output, Name) or output in self.inputs:
            raise TritbenchError(
                "the network's output does not depend on its input by an operation"
            )
        arrays = {name: np.ascontiguousarray(t.numpy()) for name, t in self.parameters.items()}
        nodes, arrays = _needed(self.nodes, output, arrays)
        return Graph(self.inputs, nodes, output, arrays)

    def _input(self, node: fx.Node) -> None:
        value = node.meta["val"]
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in DTYPES:
            raise TritbenchError(f"input {node.name}: {dtype}, expected {' or '.join(DTYPES)}")
        self.inputs[node.name] = Value(read_shape(value), dtype)
        self.shapes[node.name] = self.inputs[node.name].shape
        self.values[node] = Name(node.name)

    def _call(self, node: fx.Node, order: dict[fx.Node, int]) -> None:
        target = node.target
        if target is operator.getitem:
            several, index = (fx.map_arg(a, self._value) for a in node.args)
            if isinstance(several, list | tuple):
                # Of several results only the first is a value: indices and statistics are not.
                self.values[node] = several[index] if index < len(several) else None  # type: ignore[index,operator]
                return
        if not isinstance(target, torch._ops.OpOverload) or _is_number(node):
            self.values[node] = node.meta.get("val")
            return
        arguments = [fx.map_arg(a, self._value) for a in node.args]
        named = {key: fx.map_arg(a, self._value) for key, a in node.kwargs.items()}
        if _is_constant(arguments) and _is_constant(list(named.values())):
            self.values[node] = target(*arguments, **named)
            return
        name = target._schema.name.removeprefix("aten::")
        if _changes_in_place(node) and name != "dropout_":
            self._require_no_alias(node, order)
        bound = _bind(target, arguments, named)
        try:
            lowering = LOWERINGS.get(name.rstrip("_")) or LOWERINGS.get(name) or plainly
            self.values[node] = lowering(self, name.rstrip("_"), bound, node.meta.get("val"))
        except UnsupportedError as error:
            where = _where(node)
            self.problems.setdefault(f"{error} ({where})" if where else str(error), target)
            self.values[node] = self._stand_in(node, node.meta.get("val"))  # to find all of them
            return
        except TritbenchError as error:
            raise TritbenchError(f"{error} ({_where(node)})") from None
        if _changes_in_place(node):
            self.values[node.args[0]] = self.values[node]  # type: ignore[index]

    def _stand_in(self, node: fx.Node, value: Any) -> Any:
        """A name for the result of an operation that is not here."""
        if isinstance(value, list | tuple):
            return [self._stand_in(node, part) for part in value]
        name = Name(f"{node.name}.{len(self.shapes)}")
        self.shapes[name] = read_shape(value)
        return name

    def _value(self, node: fx.Node) -> Any:
        return self.values.get(node)

    def _require_no_alias(self, node: fx.Node, order: dict[fx.Node, int]) -> None:
        """An in-place operation is plain where the tensor has no other name that is used later."""
        changed = node.args[0]
        assert isinstance(changed, fx.Node)
        later = order[node]

        def views(of: fx.Node) -> Iterator[fx.Node]:
            for user in of.users:
                if user is not node and _name(user) in VIEWS:
                    yield user
                    yield from views(user)

        base = changed
        while _name(base) in VIEWS and isinstance(base.args[0], fx.Node):
            base = base.args[0]
        others = {base, *views(base)} - {changed}
        if any(order[user] > later for other in others for user in other.users):
            raise _AliasedError

    # What lowerings use.

    def name_of(self, value: Any, hint: str) -> str | None:
        """The name of a value; a constant becomes a parameter, `hint` in its module."""
        if value is None or isinstance(value, Name):
            return value
        assert isinstance(value, Tensor)
        name = self.named.get(_identity(value))
        if name is None:
            name = stem = ".".join(filter(None, (_module(self.at), hint)))
            while name in self.shapes or name in self.named.values():
                name = f"{stem}_{len(self.shapes)}"
            value = value.clone()
        if name not in self.parameters:
            if value.is_floating_point() and value.dtype != torch.float32:
                dtype = str(value.dtype).removeprefix("torch.")
                raise TritbenchError(f"{name} is {dtype}, expected float32")
            stored = value if value.is_floating_point() else value.long()
            self.parameters[name] = stored.reshape(1) if value.dim() == 0 else stored
            self.shapes[name] = tuple(self.parameters[name].shape)
        return name

    def shape_of(self, value: Any) -> Shape:
        """Of a name or a constant."""
        return self.shapes[value] if isinstance(value, Name) else tuple(value.shape)

    def add(self, op: str, inputs: Sequence[Any], **attributes: Any) -> Name:
        """One more node; returns its name."""
        assert self.at is not None
        hints = [name.rstrip("?*") for name in OPS[op].inputs]
        hints += hints[-1:] * (len(inputs) - len(hints))
        names = tuple(self.name_of(v, h) for v, h in zip(inputs, hints, strict=False))
        name = stem = self.at.name
        while name in self.shapes:
            name = f"{stem}_{len(self.nodes)}"
        node = Node(name, op, names, attributes, (), _module(self.at), _source(self.at))
        node = add_node(self.shapes, node)
        self.nodes.append(node)
        self.shapes[name] = node.shape
        return Name(name)


def _needed(
    nodes: list[Node], output: str, arrays: dict[str, Any]
) -> tuple[tuple[Node, ...], dict[str, Any]]:
    """Without what the output does not depend on."""
    needed = {output}
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(name for name in node.inputs if name is not None)
    kept = tuple(node for node in nodes if node.name in needed)
    return kept, {name: array for name, array in arrays.items() if name in needed}


def _bind(target: Any, arguments: list[Any], named: dict[str, Any]) -> dict[str, Any]:
    """Arguments by the names of the schema, those left out at their defaults."""
    bound = {}
    for position, argument in enumerate(target._schema.arguments):
        if position < len(arguments):
            bound[argument.name] = arguments[position]
        else:
            bound[argument.name] = named.get(argument.name, argument.default_value)
    return bound


def _is_number(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, int | float | bool | torch.SymInt | torch.SymFloat | torch.SymBool)


def _is_constant(value: Any) -> bool:
    """Whether nothing in it depends on the input or on the batch."""
    if isinstance(value, list | tuple):
        return all(_is_constant(item) for item in value)
    if isinstance(value, torch.SymInt | torch.SymFloat):
        return bool(value.node.expr.is_number)
    return not isinstance(value, Name)


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    """What two tensors share that are the same elements in the same memory."""
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _changes_in_place(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _name(node: fx.Node) -> str:
    if node.target is operator.getitem:
        return "getitem"
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target._schema.name).removeprefix("aten::")
    return ""


def _module(node: fx.Node | None) -> str:
    stack = node.meta.get("nn_module_stack") if node is not None else None
    return str(list(stack.values())[-1][0]) if stack else ""


def _where(node: fx.Node) -> str:
    return ", ".join(filter(None, (_module(node), _source(node))))


def _source(node: fx.Node) -> str:
    """FILE:LINE of the last line that is not PyTorch's own."""
    found = ""
    for line in (node.meta.get("stack_trace") or "").splitlines():
        parts = line.strip().split('"')
        if len(parts) == 3 and parts[0] == "File " and "torch/nn/" not in parts[1]:
            number = parts[2].removeprefix(", line ").split(",")[0]
            found = f"{short_path(parts[1])}:{number}"
    return found


def short_path(path: str) -> str:
    """A path without the folder that Python found it in."""
    for folder in (str(Path.cwd()), *sorted(map(str, sys.path), key=len, reverse=True)):
        if folder and path.startswith(folder + "/"):
            return path[len(folder) + 1 :]
    return Path(path).name
