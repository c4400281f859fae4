"""Operations that move elements or none: reshape, permute, slice, cat, pad, roll, embedding."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tritbench.graph.graph import Node
from tritbench.graph.shapes import axis
from tritbench.runtime import views
from tritbench.runtime.builder import Builder, UnknownError, image_shape
from tritbench.runtime.parts import View
from tritbench.runtime.steps import Copy, Embedding, Gather
from tritbench.runtime.views import Value


def _reshape(builder: Builder, node: Node) -> None:
    value = builder.take(node.inputs[0])
    builder.values[node.name] = builder.reshaped(value, image_shape(node.shape))


def _permute(builder: Builder, node: Node) -> None:
    value = builder.take(node.inputs[0])
    order = [axis(d, len(value.dims)) for d in node.attributes["dims"]]
    builder.values[node.name] = views.permuted(value, order)


def _expand(builder: Builder, node: Node) -> None:
    value = builder.take(node.inputs[0])
    builder.values[node.name] = views.expanded(value, image_shape(node.shape))


def _slice(builder: Builder, node: Node) -> None:
    value = builder.take(node.inputs[0])
    a = node.attributes
    dim = axis(a["dim"], len(value.dims))
    count = image_shape(node.shape)[dim]
    found = views.sliced(value, dim, a["start"], count, a["step"])
    if found is None:
        found = views.sliced(builder.plain(value), dim, a["start"], count, a["step"])
    assert found is not None
    builder.values[node.name] = found


def _cat(builder: Builder, node: Node) -> None:
    """Each input is copied into its place, in the order in which the first lies."""
    parts = [builder.take(name) for name in node.inputs]
    dim = axis(node.attributes["dim"], len(parts[0].dims))
    shape = image_shape(node.shape)
    result = builder.make(shape, views.dense(shape, _order(max(parts, key=lambda p: p.size))))
    start = 0
    for part in parts:
        size = part.shape[dim]
        place = views.sliced(result, dim, start, size, 1)
        assert place is not None
        _copy(builder, part, place)
        start += size
    builder.values[node.name] = result


def _order(value: Value) -> list[int]:
    """Dimensions from the outermost to the innermost, as they lie; in rows where that is mixed."""
    view = views.single(value)
    if view is None:
        return list(range(len(value.dims)))
    moving = [d for d in range(len(view.sizes)) if view.sizes[d] > 1]
    if any(view.strides[d] == 0 for d in moving):
        return list(range(len(value.dims)))
    still = [d for d in range(len(view.sizes)) if view.sizes[d] == 1]
    return still + sorted(moving, key=lambda d: -view.strides[d])


def _copy(builder: Builder, value: Value, place: Value) -> None:
    found = views.aligned([place, value])
    if found is None:
        found = views.aligned([place, builder.plain(value)])
    assert found is not None
    builder.add(Copy(found[1], found[0]))


def _gathered(
    builder: Builder, value: Value, dim: int, table: NDArray[np.int64], fill: float = 0.0
) -> Value:
    """Along one dimension what a table says; -1 is `fill`."""
    shape = list(value.shape)
    shape[dim] = len(table)
    order = _order(value)
    result = builder.make(shape, views.dense(shape, order))
    moved = value if views.single(value) else builder.copied(value)
    x = views.single(views.permuted(moved, order))
    out = views.single(views.permuted(result, order))
    assert x is not None
    assert out is not None
    at = order.index(dim)
    threes = [_three(view, at) for view in (x, out)]
    if threes[0] is None:
        moved = builder.copied(value, views.dense(value.shape, order))
        x = views.single(views.permuted(moved, order))
        assert x is not None
        threes[0] = _three(x, at)
    first, last = threes
    assert first is not None
    assert last is not None
    builder.add(Gather(first, table.astype(np.int32), fill, last))
    return result


def _three(view: View, at: int) -> View | None:
    """Dimensions before and behind one as one each; None where they have gaps."""
    pairs = list(zip(view.sizes, view.strides, strict=True))
    outer, inner = views.merged(pairs[:at]), views.merged(pairs[at + 1 :])
    if len(outer) > 1 or len(inner) > 1:
        return None
    three = [outer[0] if outer else (1, 0), pairs[at], inner[0] if inner else (1, 1)]
    sizes, strides = zip(*three, strict=True)
    return View(view.buffer, view.offset, tuple(sizes), tuple(strides))


def _pad(builder: Builder, node: Node) -> None:
    value = builder.take(node.inputs[0])
    a = node.attributes
    for index in range(len(a["pad"]) // 2):
        before, after = a["pad"][2 * index : 2 * index + 2]
        if before == after == 0:
            continue
        dim = len(value.dims) - 1 - index
        size = value.shape[dim]
        at = np.arange(-before, size + after)
        match a["mode"]:
            case "constant":
                at = np.where((at < 0) | (at >= size), -1, at)
            case "reflect":
                at = size - 1 - np.abs(size - 1 - np.abs(at))
            case "replicate":
                at = at.clip(0, size - 1)
            case "circular":
                at = at % size
        value = _gathered(builder, value, dim, at, float(a["value"] or 0))
    builder.values[node.name] = value


def _roll(builder: Builder, node: Node) -> None:
    value = builder.take(node.inputs[0])
    for shift, dim in zip(node.attributes["shifts"], node.attributes["dims"], strict=True):
        at = axis(dim, len(value.dims))
        size = value.shape[at]
        if shift % size:
            value = _gathered(builder, value, at, (np.arange(size) - shift) % size)
    builder.values[node.name] = value


def _index_select(builder: Builder, node: Node) -> None:
    value = builder.take(node.inputs[0])
    index = builder.graph.parameters.get(str(node.inputs[1]))
    if index is None:
        raise UnknownError(f"{node.name} (index_select): indices that are computed")
    dim = axis(node.attributes["dim"], len(value.dims))
    if index.min() < 0 or index.max() >= value.shape[dim]:
        raise UnknownError(f"{node.name} (index_select): an index beyond {value.shape[dim]}")
    builder.values[node.name] = _gathered(builder, value, dim, index)


def _embedding(builder: Builder, node: Node) -> None:
    name = str(node.inputs[0])
    parameters = builder.graph.parameters
    if name not in parameters:
        raise UnknownError(f"{node.name} (embedding): a weight that is computed")
    packed = builder.weights.get(name)
    weights = parameters[name] if packed is None else packed.dequantize()
    result = builder.make(image_shape(node.shape))
    count, features = result.size // weights.shape[1], weights.shape[1]
    out = View(result.buffer, 0, (count, features), (features, 1))
    if node.inputs[1] in parameters:
        rows = weights[parameters[str(node.inputs[1])]]
        builder.values[node.name] = Value(builder.constant(rows), 0, result.dims)
        return
    indices = builder.plain(builder.take(node.inputs[1]))
    view = View(indices.buffer, indices.offset, (count,), (1,))
    builder.add(Embedding(view, np.ascontiguousarray(weights), out))
    builder.values[node.name] = result


MOVES = ("reshape", "permute", "expand", "slice", "cat", "roll")  # of values of any kind
LOWER: dict[str, Callable[[Builder, Node], None]] = {
    "reshape": _reshape,
    "permute": _permute,
    "expand": _expand,
    "slice": _slice,
    "cat": _cat,
    "pad": _pad,
    "roll": _roll,
    "index_select": _index_select,
    "embedding": _embedding,
}
