"""What lowerings share: from an operation of ATen to rows of `OPS`.

Each lowering takes the reader (`reader.py`), ATen's name without the underscore of in-place
variants, the arguments by ATen's names, and the symbolic result, and returns what the result is.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from tritbench.errors import TritbenchError
from tritbench.graph.ops import OPS, Op
from tritbench.graph.shapes import Shape


class Name(str):
    """Of a value that depends on the network's input; other strings are plain arguments."""

    __slots__ = ()


class UnsupportedError(TritbenchError):
    """An operation without a row; `targets` are PyTorch's."""

    def __init__(self, message: str, targets: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.targets = tuple(targets)


class Reader(Protocol):
    """What a lowering may ask of the reader."""

    def add(self, op: str, inputs: Sequence[Any], **attributes: Any) -> Name:
        """One more node; constants among its inputs become parameters."""

    def shape_of(self, value: Any) -> Shape:
        """Of a value or a constant."""


Arguments = dict[str, Any]
Lowering = Callable[[Reader, str, Arguments, Any], Any]


def read_shape(value: Any) -> Shape:
    """The shape of a symbolic tensor, with -k for k × the batch.

    Raises:
        TritbenchError: where a size is neither a number nor a multiple of the batch.
    """
    return tuple(read_size(size) for size in value.shape)


def read_size(size: Any) -> int:
    """One size: see `read_shape`."""
    if not isinstance(size, torch.SymInt):
        return int(size)
    expression = size.node.expr
    if expression.is_number:
        return int(expression)
    symbols = list(expression.free_symbols)
    factor = int(expression.subs(symbols[0], 3)) // 3 if len(symbols) == 1 else 0
    if not factor or any(expression.subs(symbols[0], n) != factor * n for n in (2, 3, 7)):
        raise TritbenchError(f"the size {expression} is not a multiple of the batch")
    return -factor


def plainly(reader: Reader, name: str, arguments: Arguments, _: Any) -> Name:
    """An operation that is a row: tensors are its inputs, all else its attributes.

    Raises:
        UnsupportedError: where there is no such row, or it has not that argument.
    """
    op = OPS.get(name)
    if op is None:
        raise UnsupportedError(name)
    arguments = dict(arguments)
    inputs: list[Any] = []
    for given in op.inputs:
        value = arguments.pop(given.rstrip("?*"), None)
        if given.endswith("*"):
            inputs += value
        elif value is None or isinstance(value, Name | Tensor):
            inputs.append(value)
        else:
            inputs.append(None)
            arguments[given.rstrip("?")] = value
    return reader.add(name, inputs, **_attributes(name, op, arguments))


def _attributes(name: str, op: Op, arguments: Arguments) -> Arguments:
    attributes = {}
    for key, value in arguments.items():
        if key in op.attributes:
            attributes[key] = _plain(value)
        elif key not in op.fixed and value not in _IGNORED.get(key, (None,)):
            raise UnsupportedError(f"{name} with {key}={value}")
    return attributes


# Arguments that no row has, with the values that change nothing.
_IGNORED: dict[str, tuple[Any, ...]] = {
    "alpha": (1,),
    "dropout_p": (0.0,),
    "implicit": (False,),
}


def _plain(value: Any) -> Any:
    """JSON of an argument; sizes become those of `read_size`."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, torch.SymInt):
        return read_size(value)
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    raise UnsupportedError(f"an argument of type {type(value).__name__}")


def reshaped(reader: Reader, value: Any, shape: Shape) -> Any:
    """The same elements in another shape."""
    if reader.shape_of(value) == shape:
        return value
    return reader.add("reshape", [value], shape=list(shape))


def sliced(reader: Reader, value: Any, at: int, start: int, end: int, step: int = 1) -> Any:
    """`start:end:step` along dimension `at`."""
    if (start, end, step) == (0, reader.shape_of(value)[at], 1):
        return value
    return reader.add("slice", [value], dim=at, start=start, end=end, step=step)


def as_list(value: Any, rank: int) -> list[int]:
    """One number for each of `rank` dimensions, where PyTorch takes one for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * rank if len(values) == 1 else values
