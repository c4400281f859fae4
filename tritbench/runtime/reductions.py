"""Operations that see many elements at once: norms, softmax, attention, pools, sums, products."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tritbench.graph.graph import Node
from tritbench.graph.passes import affine
from tritbench.graph.shapes import axis
from tritbench.runtime import views
from tritbench.runtime.builder import Builder, UnknownError, image_shape
from tritbench.runtime.parts import Post, View
from tritbench.runtime.steps import (
    AdaptivePool,
    Attention,
    Elementwise,
    GroupNorm,
    LayerNorm,
    MatMul,
    Pool,
    Reduce,
    Softmax,
)
from tritbench.runtime.views import Value

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]
NONE: Floats = np.zeros(0, np.float32)


def _parameter(builder: Builder, node: Node, position: int) -> Floats:
    name = node.inputs[position]
    if name is None:
        return NONE
    if name not in builder.graph.parameters:
        raise UnknownError(f"{node.name} ({node.op}): a parameter that is computed")
    return np.ascontiguousarray(builder.graph.parameters[name].ravel(), np.float32)


def _batch_norm(builder: Builder, node: Node) -> None:
    """x × gain + shift for each channel."""
    for name in node.inputs[1:]:
        if name is not None and name not in builder.graph.parameters:
            raise UnknownError(f"{node.name} (batch_norm): a parameter that is computed")
    x = builder.take(node.inputs[0])
    result = builder.make(x.shape, views.dense_like(x))
    operands = []
    for values in affine(node, builder.graph.parameters):
        wide = values.astype(np.float32).reshape(-1, *(1,) * (len(x.dims) - 2))
        constant = Value(builder.constant(wide), 0, views.dense(wide.shape))
        operands.append(views.expanded(constant, x.shape))
    found = views.aligned([result, x, *operands])
    if found is None:
        found = views.aligned([result, builder.copied(x, result.dims), *operands])
    assert found is not None
    out, given, gain, shift = found
    builder.add(Elementwise(given, (Post("mul", gain), Post("add", shift)), out))
    builder.values[node.name] = result


def _rows(builder: Builder, node: Node, dims: int) -> tuple[View, Value, Value]:
    """The input's last dimensions as rows in their order; and a result that lies as it does."""
    value = builder.take(node.inputs[0])
    shape = value.shape
    count = math.prod(shape[len(shape) - dims :])
    flat = views.reshaped(value, (*shape[: len(shape) - dims], count))
    if flat is None or (flat.dims[-1] and flat.dims[-1] != ((count, 1),)):
        flat = views.reshaped(builder.plain(value), (*shape[: len(shape) - dims], count))
        assert flat is not None
    view, flat = builder.rows(flat)
    outer = views.dense_like(Value(0, 0, flat.dims[:-1]))
    like = tuple(tuple((n, s * count) for n, s in dim) for dim in outer)
    result = builder.make(shape, (*like, *views.dense(shape[len(shape) - dims :])))
    x = View(view.buffer, view.offset, (view.sizes[0], count), (view.strides[0], 1))
    return x, result, flat


def _layer_norm(builder: Builder, node: Node) -> None:
    x, result, _ = _rows(builder, node, len(node.attributes["normalized_shape"]))
    weight, bias = _parameter(builder, node, 1), _parameter(builder, node, 2)
    builder.add(LayerNorm(x, node.attributes["eps"], weight, bias, _out(result, x)))
    builder.values[node.name] = result


def _out(result: Value, x: View) -> View:
    """A result that lies as the rows of x do, without gaps."""
    strides = [1]
    for size in reversed(x.sizes[1:]):
        strides.insert(0, strides[0] * size)
    return View(result.buffer, 0, x.sizes, tuple(strides))


def _softmax(builder: Builder, node: Node) -> None:
    value = builder.take(node.inputs[0])
    at = axis(node.attributes["dim"], len(value.dims))
    last = len(value.dims) - 1
    order = [d for d in range(last + 1) if d != at] + [at]
    moved = views.permuted(value, order)
    inner = moved.dims[-1]
    count = moved.shape[-1]
    if inner and inner != ((count, 1),):
        moved = builder.copied(moved)
    view, moved = builder.rows(moved)
    outer = views.dense_like(Value(0, 0, moved.dims[:-1]))
    dims = (*(tuple((n, s * count) for n, s in dim) for dim in outer), views.merged([(count, 1)]))
    result = builder.make(moved.shape, dims)
    x = View(view.buffer, view.offset, (view.sizes[0], count), (view.strides[0], 1))
    builder.add(Softmax(x, node.op == "log_softmax", _out(result, x)))
    builder.values[node.name] = views.permuted(result, np.argsort(order).tolist())


def _group_norm(builder: Builder, node: Node) -> None:
    """Of maps with channels last; each image one map."""
    value = builder.take(node.inputs[0])
    shape = value.shape
    four = builder.reshaped(value, (shape[0], shape[1], 1, math.prod(shape[2:])))
    view = builder.maps(four)
    if view.strides[2] < shape[1] and view.sizes[2] > 1:
        view = builder.maps(builder.copied(four, views.dense(four.shape, (0, 2, 3, 1))))
    result = builder.make(shape, views.dense(shape, (0, *range(2, len(shape)), 1)))
    sizes = (view.sizes[0], view.sizes[2], view.sizes[3])
    strides = (view.strides[0], view.strides[2], 1)
    x = View(view.buffer, view.offset, sizes, strides)
    weight, bias = _parameter(builder, node, 1), _parameter(builder, node, 2)
    a = node.attributes
    builder.add(GroupNorm(x, a["num_groups"], a["eps"], weight, bias, _out(result, x)))
    builder.values[node.name] = result


def _reduce(builder: Builder, node: Node) -> None:
    """Over dimensions one after another; the others stay in the order in which they lie."""
    value = builder.take(node.inputs[0])
    rank = len(value.dims)
    a = node.attributes
    gone = sorted({axis(d, rank) for d in a["dim"]} or set(range(rank)))
    kept = [d for d in range(rank) if d not in gone]
    outer = Value(value.buffer, value.offset, tuple(value.dims[d] for d in kept))
    result = builder.make(outer.shape, views.dense_like(outer))
    fine = views.aligned([result, outer]) or views.aligned(
        [result, Value(value.buffer, value.offset, outer.dims)]
    )
    inner = views.merged([atom for d in gone for atom in value.dims[d]]) or ((1, 0),)
    assert fine is not None
    out, x = fine
    sizes = (*x.sizes, *(n for n, _ in inner))
    strides = (*x.strides, *(s for _, s in inner))
    order = float(a.get("ord", 0))
    how = "norm" if node.op == "linalg_vector_norm" else node.op
    builder.add(Reduce(View(x.buffer, x.offset, sizes, strides), len(inner), how, order, out))
    if a["keepdim"]:
        result = builder.reshaped(result, image_shape(node.shape))
    builder.values[node.name] = result


def _bins(size: int, count: int) -> tuple[Ints, Ints]:
    """Begin and end of each part of a dimension."""
    start = np.arange(count) * size // count
    end = -(-(np.arange(1, count + 1) * size) // count)
    return start.astype(np.int32), end.astype(np.int32)


def _pool(builder: Builder, node: Node) -> None:
    value = builder.take(node.inputs[0])
    shape = image_shape(node.shape)
    flat = len(shape) == 3  # maps of one dimension are maps of height 1
    if flat:
        value = builder.reshaped(value, (*value.shape[:2], 1, value.shape[2]))
    last = views.dense(value.shape, (0, 2, 3, 1))
    view = builder.maps(value if value.dims == last else builder.copied(value, last))
    result = builder.make(shape, views.dense(shape, (0, 2, 1) if flat else (0, 2, 3, 1)))
    wide = (*shape[:2], 1, shape[2]) if flat else shape
    sizes = (wide[0], wide[2], wide[3], wide[1])
    out = _out(result, View(0, 0, sizes, sizes))
    builder.values[node.name] = result
    a = node.attributes
    average = "avg" in node.op
    if "output_size" in a:
        bins = (*_bins(value.shape[2], wide[2]), *_bins(value.shape[3], wide[3]))
        builder.add(AdaptivePool(view, *bins, average, out))
        return

    def pair(key: str, other: int) -> tuple[int, ...]:
        return (other, *a[key]) if flat else tuple(a[key])

    stride = "stride" if a["stride"] else "kernel_size"
    dilation = pair("dilation", 1) if "dilation" in a else (1, 1)
    builder.add(
        Pool(
            view,
            pair("kernel_size", 1),
            pair(stride, 1),
            pair("padding", 0),
            dilation,
            average,
            a.get("count_include_pad", True),
            a.get("divisor_override") or 0,
            out,
        )
    )


def _leading(builder: Builder, value: Value, shape: Sequence[int], least: int = 1) -> View:
    """[…, rows, columns] broadcast to `shape`, as a view of five dimensions.

    Args:
        builder: that moves it where it cannot be said so.
        value: the matrices.
        shape: sizes to broadcast to.
        least: 1 where columns have to lie one after another, else 0.
    """
    wide = views.expanded(value, shape)
    view = views.single(wide)
    if view is None or (least and view.sizes[-1] > 1 and view.strides[-1] != 1):
        wide = views.expanded(builder.copied(value), shape)
        view = views.single(wide)
    if view is None or (least and view.sizes[-1] > 1 and view.strides[-1] != 1):
        view = views.single(builder.copied(wide))
    assert view is not None
    outer = list(zip(view.sizes, view.strides, strict=True))
    three = outer[:-2]
    spare = 3 - len(three)
    if spare < 0:
        raise UnknownError(f"matrices of {len(shape)} dimensions")
    pairs = [(1, 0)] * spare + outer
    return View(view.buffer, view.offset, tuple(n for n, _ in pairs), tuple(s for _, s in pairs))


def _matmul(builder: Builder, node: Node) -> None:
    x, y = (builder.take(name) for name in node.inputs)
    shape = image_shape(node.shape)
    lead = shape[:-2]
    result = builder.make(shape)
    first = _leading(builder, x, (*lead, *x.shape[-2:]))
    second = _leading(builder, y, (*lead, *y.shape[-2:]), least=0)
    builder.add(MatMul(first, second, _leading(builder, result, shape)))
    builder.values[node.name] = result


def _attention(builder: Builder, node: Node) -> None:
    query, key, value = (builder.take(name) for name in node.inputs[:3])
    a = node.attributes
    shape = image_shape(node.shape)
    lead = shape[:-2]
    repeat = lead[-1] // key.shape[-3] if len(shape) > 3 or a["enable_gqa"] else 1
    if repeat > 1:  # heads that share keys and values
        key, value = (_repeated(builder, v, repeat) for v in (key, value))
    # Heads side by side, as what follows mostly wants them.
    rank = len(shape)
    order = (*range(rank - 3), rank - 2, rank - 3, rank - 1)
    result = builder.make(shape, views.dense(shape, order))
    mask = None
    if node.inputs[3] is not None:
        taken = builder.take(node.inputs[3])
        mask = _leading(builder, taken, (*lead, query.shape[-2], key.shape[-2]), least=1)
    scale = 1 / math.sqrt(query.shape[-1]) if a["scale"] is None else a["scale"]
    builder.add(
        Attention(
            _leading(builder, query, (*lead, *query.shape[-2:])),
            _leading(builder, key, (*lead, *key.shape[-2:])),
            _leading(builder, value, (*lead, *value.shape[-2:])),
            mask,
            a["is_causal"],
            scale,
            _leading(builder, result, shape),
        )
    )
    builder.values[node.name] = result


def _repeated(builder: Builder, value: Value, times: int) -> Value:
    """Heads [..., h, l, e] each so many times, one after another."""
    shape = value.shape
    wide = builder.reshaped(value, (*shape[:-2], 1, *shape[-2:]))
    wide = views.expanded(wide, (*shape[:-2], times, *shape[-2:]))
    return builder.reshaped(builder.copied(wide), (*shape[:-3], shape[-3] * times, *shape[-2:]))


LOWER: dict[str, Callable[[Builder, Node], None]] = {
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "softmax": _softmax,
    "log_softmax": _softmax,
    **dict.fromkeys(("mean", "sum", "amax", "amin", "linalg_vector_norm"), _reduce),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"), _pool),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d"), _pool),
    "matmul": _matmul,
    "scaled_dot_product_attention": _attention,
}
