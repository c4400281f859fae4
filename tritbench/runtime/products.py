"""Linear layers and convolutions as steps, with what is fused into them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tritbench.graph.graph import Node
from tritbench.packing.weights import IntegerArray, TernaryArray
from tritbench.runtime import views
from tritbench.runtime.builder import Builder, UnknownError, image_shape
from tritbench.runtime.float_products import depthwise, float_product
from tritbench.runtime.geometry import Geometry
from tritbench.runtime.packed_products import packed_product
from tritbench.runtime.parts import View
from tritbench.runtime.posts import AsView, following, fuse
from tritbench.runtime.views import Value


def linear(builder: Builder, node: Node) -> None:
    """[..., in] × [out, in]."""
    x, weight = node.inputs[0], str(node.inputs[1])
    if weight not in builder.graph.parameters:
        raise UnknownError(f"{node.name} (linear): a weight that is computed")
    outputs, inputs = builder.graph.parameters[weight].shape
    view, value = builder.rows(builder.take(x))
    dims = _rows_like(value, outputs)
    result = builder.make((*image_shape(node.shape)[:-1], outputs), dims)
    rows = view.sizes[0]

    def as_view(operand: Value) -> View | None:
        found = views.aligned([result, operand])
        if found is None or len(found[0].sizes) > 2:
            return None
        _, other = found
        if len(other.sizes) == 1:
            stride = other.strides[0]
            return View(
                other.buffer, other.offset, (rows, 1, 1, outputs), (outputs * stride, 0, 0, stride)
            )
        if other.sizes != (rows, outputs):
            return None
        first, last = other.strides
        return View(other.buffer, other.offset, (rows, 1, 1, outputs), (first, 0, 0, last))

    order = _order(value.dims[-1])
    geometry = Geometry((1, 1), inputs, (1, 1), (1, 1), (0, 0), (1, 1), 1, outputs, order)
    _product(builder, node, geometry, view, result, as_view)


def convolution(builder: Builder, node: Node) -> None:
    """[n, in, …] maps; of one dimension they are maps of height 1."""
    if node.inputs[1] not in builder.graph.parameters:
        raise UnknownError(f"{node.name} ({node.op}): a weight that is computed")
    weight = builder.graph.parameters[str(node.inputs[1])]
    a = node.attributes
    value = builder.take(node.inputs[0])
    shape = image_shape(node.shape)
    flat = len(shape) == 3
    if flat:
        value = builder.reshaped(value, (*value.shape[:2], 1, value.shape[2]))

    def pair(sizes: Sequence[int], other: int) -> tuple[int, int]:
        return (other, sizes[0]) if flat else (sizes[0], sizes[1])

    geometry = Geometry(
        (value.shape[2], value.shape[3]),
        value.shape[1],
        pair(weight.shape[2:], 1),
        pair(a["stride"], 1),
        pair(a["padding"], 0),
        pair(a["dilation"], 1),
        a["groups"],
        shape[1],
    )
    view = builder.maps(value)
    order = (0, 2, 1) if flat else (0, 2, 3, 1)
    result = builder.make(shape, views.dense(shape, order))

    def as_view(operand: Value) -> View | None:
        wide: Value | None = operand
        if flat:
            dims = (*operand.dims[:2], (), operand.dims[2])
            wide = replace(operand, dims=dims)
        return views.single(views.permuted(wide, (0, 2, 3, 1)))  # type: ignore[arg-type]

    _product(builder, node, geometry, view, result, as_view)


def _rows_like(value: Value, outputs: int) -> views.Dims:
    """Dimensions of rows of `outputs` that lie one after another as those of `value` do."""
    outer = replace(value, dims=value.dims[:-1])
    dims = views.dense_like(outer)
    scaled = tuple(tuple((n, s * outputs) for n, s in dim) for dim in dims)
    return (*scaled, views.merged([(outputs, 1)]))


def _order(dim: views.Dim) -> NDArray[np.intp]:
    """Where each element of a dense dimension lies."""
    places = np.zeros(1, np.intp)
    for size, stride in dim:
        places = (places[:, None] + np.arange(size) * stride).ravel()
    return places


def _product(
    builder: Builder, node: Node, geometry: Geometry, view: View, result: Value, as_view: AsView
) -> None:
    weight_name, bias_name = str(node.inputs[1]), node.inputs[2]
    bias = np.zeros(geometry.outputs, np.float32)
    if bias_name is not None:
        if bias_name not in builder.graph.parameters:
            raise UnknownError(f"{node.name} ({node.op}): a bias that is computed")
        bias = builder.graph.parameters[bias_name]
    weight = builder.weights.get(weight_name)
    builder.done.add(node.name)
    last = node
    bound = following(builder, node)
    bounds = (-math.inf, math.inf)
    if bound is not None and bound.op in ("relu", "clamp"):
        builder.done.add(bound.name)
        last = bound
        bounds = _bounds_of(bound)
    pooled = _pool_after(builder, last) if weight is not None else None
    each = _is_depthwise(geometry)
    if each or not isinstance(weight, TernaryArray) or builder.exact:
        pooled = None
    step = (0, 0)
    if pooled is not None and node.op == "conv2d":
        stride = pooled.attributes["stride"] or pooled.attributes["kernel_size"]
        step = (stride[0], stride[1])
        builder.done.add(pooled.name)
        last = pooled
        shape = image_shape(pooled.shape)
        result = builder.make(shape, views.dense(shape, (0, 2, 3, 1)))
    posts, last = fuse(builder, last, result, as_view)
    out = _out(result, view, geometry, step)
    builder.values[last.name] = result
    if each and not (isinstance(weight, TernaryArray) and _many_scales(weight)):
        depthwise(builder, node, geometry, view, weight, bias, bounds, posts, out)
    elif weight is None or (isinstance(weight, IntegerArray) and builder.exact):
        array = builder.graph.parameters[weight_name] if weight is None else weight.dequantize()
        float_product(builder, geometry, view, array, bias, bounds, posts, out)
    else:
        packed_product(builder, node, geometry, view, weight, bias, bounds, step, posts, out)


def _out(result: Value, view: View, geometry: Geometry, step: tuple[int, int]) -> View:
    """A result in rows as [maps, height, width, outputs]."""
    height, width = geometry.out_size
    if step[0]:
        height, width = (height - 2) // step[0] + 1, (width - 2) // step[1] + 1
    outputs = geometry.outputs
    strides = (height * width * outputs, width * outputs, outputs, 1)
    return View(result.buffer, result.offset, (view.sizes[0], height, width, outputs), strides)


def _is_depthwise(geometry: Geometry) -> bool:
    return geometry.groups > 1 and geometry.groups == geometry.channels == geometry.outputs


def _many_scales(weight: TernaryArray) -> bool:
    return weight.scale.shape[1] > 1 or weight.negative_scale is not None


def _pool_after(builder: Builder, node: Node) -> Node | None:
    """2×2 max-pooling right after a node, where the product can do it."""
    after = following(builder, node)
    if after is None or after.op != "max_pool2d" or after.shape[0] not in (-1, 1):
        return None
    a = after.attributes
    stride = a["stride"] or a["kernel_size"]
    plain = not any(a["padding"]) and a["dilation"] == [1, 1] and not a["ceil_mode"]
    return after if plain and a["kernel_size"] == [2, 2] and min(stride) >= 2 else None


def _bounds_of(node: Node) -> tuple[float, float]:
    """Least and greatest that a ReLU or clamp leaves."""
    if node.op == "relu":
        return 0.0, math.inf
    low, high = node.attributes["min"], node.attributes["max"]
    return -math.inf if low is None else float(low), math.inf if high is None else float(high)
