"""Lowerings of what moves values without computing any."""

from typing import Any

import torch
from torch import Tensor

from tritbench.errors import TritbenchError
from tritbench.graph.lower import (
    Arguments,
    Lowering,
    Reader,
    UnsupportedError,
    as_list,
    plainly,
    read_shape,
    read_size,
    reshaped,
    sliced,
)
from tritbench.graph.shapes import axis, has_batch


def _identity(_: Reader, __: str, arguments: Arguments, ___: Any) -> Any:
    return next(iter(arguments.values()))


def _dropout(_: Reader, name: str, arguments: Arguments, __: Any) -> Any:
    if arguments["train"]:
        raise TritbenchError(f"{name} is active in evaluation mode")
    return next(iter(arguments.values()))


def _to(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    if value.dtype != torch.float32:
        raise UnsupportedError(f"{name} of {value.dtype}")
    return next(iter(arguments.values()))


def _reshape(reader: Reader, _: str, arguments: Arguments, value: Any) -> Any:
    return reshaped(reader, next(iter(arguments.values())), read_shape(value))


def _expand(reader: Reader, _: str, arguments: Arguments, value: Any) -> Any:
    shape = read_shape(value)
    source = next(iter(arguments.values()))
    if reader.shape_of(source) == shape:
        return source
    return reader.add("expand", [source], size=list(shape))


def _repeat(reader: Reader, _: str, arguments: Arguments, value: Any) -> Any:
    source, repeats = arguments["self"], [read_size(n) for n in arguments["repeats"]]
    shape = reader.shape_of(source)
    shape = (1,) * (len(repeats) - len(shape)) + shape
    apart = [n for size, times in zip(shape, repeats, strict=True) for n in (1, size)]
    wide = [n for size, times in zip(shape, repeats, strict=True) for n in (times, size)]
    spread = reader.add("expand", [reshaped(reader, source, tuple(apart))], size=wide)
    return reshaped(reader, spread, read_shape(value))


def _permute(reader: Reader, name: str, arguments: Arguments, _: Any) -> Any:
    source = arguments["self"]
    rank = len(reader.shape_of(source))
    order = list(range(rank))
    if name == "permute":
        order = [axis(d, rank) for d in arguments["dims"]]
    elif name == "movedim":
        pairs = (arguments["source"], arguments["destination"])
        begin, end = ([d] if isinstance(d, int) else d for d in pairs)
        moved = dict(zip((axis(d, rank) for d in end), (axis(d, rank) for d in begin), strict=True))
        rest = iter([d for d in range(rank) if d not in moved.values()])
        order = [moved[d] if d in moved else next(rest) for d in range(rank)]
    elif rank >= 2:
        keys = {"transpose": ("dim0", "dim1"), "swapdims": ("dim0", "dim1")}
        keys["swapaxes"] = ("axis0", "axis1")
        first, second = (arguments[k] for k in keys.get(name, ())) if name in keys else (-2, -1)
        first, second = axis(first, rank), axis(second, rank)
        order[first], order[second] = second, first
    if order == list(range(rank)):
        return source
    return reader.add("permute", [source], dims=order)


def _slice(reader: Reader, _: str, arguments: Arguments, __: Any) -> Any:
    source = arguments["self"]
    shape = reader.shape_of(source)
    at = axis(arguments["dim"], len(shape))
    start, end, step = arguments["start"], arguments["end"], arguments["step"]
    if shape[at] < 0:
        whole = (start or 0, step) == (0, 1) and (end is None or not isinstance(end, int))
        if whole or (isinstance(end, int) and end > 2**40):
            return source
        raise TritbenchError("a slice along the batch")
    return sliced(reader, source, at, *slice(start, end, step).indices(shape[at]))


def _narrow(reader: Reader, _: str, arguments: Arguments, __: Any) -> Any:
    source, start = arguments["self"], arguments["start"]
    at = axis(arguments["dim"], len(reader.shape_of(source)))
    return sliced(reader, source, at, start, start + arguments["length"])


def _select(reader: Reader, _: str, arguments: Arguments, value: Any) -> Any:
    source = arguments["self"]
    shape = reader.shape_of(source)
    at = axis(arguments["dim"], len(shape))
    if shape[at] < 0:
        raise TritbenchError("an element along the batch")
    index = arguments["index"] % shape[at]
    return reshaped(reader, sliced(reader, source, at, index, index + 1), read_shape(value))


def _split(reader: Reader, name: str, arguments: Arguments, value: Any) -> list[Any]:
    source = arguments["self"]
    at = axis(arguments["dim"], len(reader.shape_of(source)))
    parts, start = [], 0
    for part in value:
        size = 1 if name == "unbind" else read_shape(part)[at]
        if size < 0:
            raise TritbenchError(f"{name} along the batch")
        piece = sliced(reader, source, at, start, start + size)
        parts.append(reshaped(reader, piece, read_shape(part)))
        start += size
    return parts


def _stack(reader: Reader, _: str, arguments: Arguments, value: Any) -> Any:
    shape = read_shape(value)
    at = axis(arguments["dim"], len(shape))
    single = (*shape[:at], 1, *shape[at + 1 :])
    return reader.add("cat", [reshaped(reader, x, single) for x in arguments["tensors"]], dim=at)


def _scatter(reader: Reader, name: str, arguments: Arguments, _: Any) -> Any:
    """A tensor with a part of it replaced: what changing a view in place becomes."""
    whole, part = arguments["self"], arguments["src"]
    shape = reader.shape_of(whole)
    at = axis(arguments["dim"], len(shape))
    if name == "select_scatter":
        start = arguments["index"] % shape[at]
        end = start + 1
        part = reshaped(reader, part, (*shape[:at], 1, *shape[at + 1 :]))
    elif shape[at] < 0:
        return part  # all of the batch
    else:
        start, end, step = slice(*(arguments[k] for k in ("start", "end", "step"))).indices(
            shape[at]
        )
        if step != 1:
            raise UnsupportedError(f"{name} with a step of {step}")
    bounds = [(0, start), (start, end), (end, shape[at])]
    parts = [
        part if p == (start, end) else sliced(reader, whole, at, *p) for p in bounds if p[0] < p[1]
    ]
    return parts[0] if len(parts) == 1 else reader.add("cat", parts, dim=at)


def _cat(reader: Reader, _: str, arguments: Arguments, __: Any) -> Any:
    parts = [x for x in arguments["tensors"] if 0 not in reader.shape_of(x)]
    if len(parts) == 1:
        return parts[0]
    return reader.add("cat", parts, dim=axis(arguments["dim"], len(reader.shape_of(parts[0]))))


def _roll(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    rank = len(reader.shape_of(arguments["self"]))
    dims = [axis(d, rank) for d in as_list(arguments["dims"], 1)]
    if not dims:
        raise UnsupportedError("roll of all elements")
    settings = {"shifts": as_list(arguments["shifts"], 1), "dims": dims}
    return plainly(reader, name, {"self": arguments["self"], **settings}, value)


def _pad(reader: Reader, _: str, arguments: Arguments, value: Any) -> Any:
    amounts = [int(n) for n in arguments["pad"]]
    if not any(amounts):
        return arguments["self"]
    settings = {"pad": amounts, "mode": arguments.get("mode", "constant")}
    filling = arguments.get("value")
    settings["value"] = filling or None  # None is 0
    return plainly(reader, "pad", {"self": arguments["self"], **settings}, value)


def _index(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    indices = arguments["indices"]
    given = [(at, index) for at, index in enumerate(indices) if index is not None]
    if len(given) != 1 or not isinstance(given[0][1], Tensor) or given[0][1].dim() != 1:
        raise UnsupportedError(f"{name} by {len(given)} tensors")
    at, index = given[0]
    if index.dtype == torch.bool:
        index = index.nonzero().flatten()
    size = reader.shape_of(arguments["self"])[at]
    index = torch.where(index < 0, index + size, index)
    return reader.add("index_select", [arguments["self"], index], dim=at)


def _fill(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    """A constant, for each image of the batch where its shape has one."""
    number = 1 if "ones" in name else arguments.get("fill_value", 0)
    if not isinstance(number, int | float):
        raise UnsupportedError(f"{name} with {type(number).__name__}")
    shape = read_shape(value)
    if not has_batch(shape):
        return torch.full(shape, number, dtype=value.dtype)
    constant = torch.full((1,) * len(shape), number, dtype=value.dtype)
    return reader.add("expand", [constant], size=list(shape))


def _nothing(_: Reader, __: str, ___: Arguments, ____: Any) -> None:
    """What only checks."""


SHAPE_LOWERINGS: dict[str, Lowering] = {
    "_assert_tensor_metadata": _nothing,
    **dict.fromkeys(
        (
            *("full", "zeros", "ones", "full_like", "zeros_like", "ones_like"),
            *("new_full", "new_zeros", "new_ones"),
        ),
        _fill,
    ),
    **dict.fromkeys(
        ("clone", "contiguous", "detach", "alias", "lift_fresh_copy", "lift_fresh"), _identity
    ),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), _dropout),
    **dict.fromkeys(("to", "_to_copy", "type_as"), _to),
    **dict.fromkeys(
        ("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"),
        _reshape,
    ),
    **dict.fromkeys(("view_as", "reshape_as"), _reshape),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), _expand),
    "repeat": _repeat,
    **dict.fromkeys(
        ("permute", "transpose", "swapaxes", "swapdims", "movedim", "t", "numpy_T", "mT"), _permute
    ),
    "slice": _slice,
    "narrow": _narrow,
    "select": _select,
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "tensor_split", "unbind"), _split),
    "stack": _stack,
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    **dict.fromkeys(("select_scatter", "slice_scatter"), _scatter),
    "roll": _roll,
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    "index": _index,
}
