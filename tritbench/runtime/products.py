"""Linear layers and convolutions as steps: where inputs lie, and weights as the kernels read them.

A table says where each four inputs lie in the activations (native/kernels.h). That is all that sets
a convolution, a flattened map or a group of inputs apart from a dense layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tritbench.graph.graph import Node
from tritbench.packing import Normalization
from tritbench.packing.weights import IntegerArray, PackedArray, TernaryArray
from tritbench.runtime import views
from tritbench.runtime.builder import Builder, UnknownError, image_shape
from tritbench.runtime.panels import (
    LANES,
    cut_into_dwords,
    pack_bytes,
    pack_codes,
    pad_to_panels,
)
from tritbench.runtime.posts import AsView, following, fuse
from tritbench.runtime.steps import (
    Depthwise,
    FloatProduct,
    PlacePixels,
    Post,
    Product,
    View,
    Windows,
)
from tritbench.runtime.terms import Terms, make_terms, taps
from tritbench.runtime.views import Value

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]
NONE_INT: Ints = np.zeros(0, np.int32)
NONE: Floats = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Geometry:
    """A convolution, or a linear layer as one whose maps are rows.

    Attributes:
        size: height and width of a map.
        channels: of a map.
        kernel: height and width.
        stride: of both.
        padding: of both, on both sides.
        dilation: of both.
        groups: of channels.
        outputs: of all groups.
        order: where in a map of one position each input lies, for linear; else None.
    """

    size: tuple[int, int]
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    outputs: int
    order: NDArray[np.intp] | None = None

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Padding: top, left, bottom, right."""
        return (*self.padding, *self.padding)

    @property
    def out_size(self) -> tuple[int, int]:
        """Output positions."""
        height, width = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                self.size, self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        return height, width

    def windows(self, maps: int, sides: Sequence[int], base: int, planar: bool) -> Windows:
        """Rows of a product over maps with `sides` of padding in them, at least the geometry's."""
        top, left, bottom, right = sides
        height, width = self.size[0] + top + bottom, self.size[1] + left + right
        pixel = 1 if planar else self.channels
        base += ((top - self.padding[0]) * width + left - self.padding[1]) * pixel
        group = self.channels // self.groups * (height * width if planar else 1)
        return Windows(
            base,
            maps,
            height * width * self.channels,
            *self.out_size,
            self.stride[0] * width * pixel,
            self.stride[1] * pixel,
            self.groups,
            group,
        )

    def places(self, sides: Sequence[int], planar: bool) -> NDArray[np.intp]:
        """Where each input of a group lies in a map with `sides` of padding, from its window on."""
        if self.order is not None:
            return self.order
        width = self.size[1] + sides[1] + sides[3]
        height = self.size[0] + sides[0] + sides[2]
        c, y, x = np.indices((self.channels // self.groups, *self.kernel)).reshape(3, -1)
        y, x = y * self.dilation[0], x * self.dilation[1]
        if planar:
            return np.asarray((c * height + y) * width + x, np.intp)
        return np.asarray((y * width + x) * self.channels + c, np.intp)


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
    depthwise = _is_depthwise(geometry)
    if depthwise or not isinstance(weight, TernaryArray) or builder.exact:
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
    if depthwise and not (isinstance(weight, TernaryArray) and _many_scales(weight)):
        _depthwise(builder, geometry, view, weight, weight_name, bias, bounds, posts, out)
    elif weight is None or (isinstance(weight, IntegerArray) and builder.exact):
        array = builder.graph.parameters[weight_name] if weight is None else weight.dequantize()
        _float_product(builder, geometry, view, array, bias, bounds, posts, out)
    else:
        _packed_product(builder, node, geometry, view, weight, bias, bounds, step, posts, out)


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


def _packed_product(
    builder: Builder,
    node: Node,
    geometry: Geometry,
    view: View,
    weight: PackedArray,
    bias: Floats,
    bounds: tuple[float, float],
    pool: tuple[int, int],
    posts: tuple[Post, ...],
    out: View,
) -> None:
    terms = [make_terms(weight, rows) for rows in _group_rows(geometry)]
    pixels = _pixels(builder, node)
    folded = pixels is not None and _pixel_product(
        builder, pixels, geometry, terms, weight, bias, bounds, pool, posts, out
    )
    data: int
    scale: int | None = None
    zero: int | None = None
    base = 0
    if builder.exact:
        data, base = builder.padded(view, geometry.sides)
        sides: tuple[int, ...] = geometry.sides
    else:
        found = builder.quantized(view, geometry.sides)
        data, scale, zero, sides = found.data, found.scale, found.zero, found.padding
    windows = geometry.windows(view.sizes[0], sides, base, planar=False)
    arrays = pack(terms, geometry.places(sides, planar=False), weight)
    flat = bias.reshape(geometry.groups, -1)
    builder.add(
        Product(
            data,
            builder.exact,
            scale,
            zero,
            windows,
            geometry.outputs // geometry.groups,
            isinstance(weight, IntegerArray),
            *arrays,
            pad_to_panels(flat)[None],
            np.zeros(windows.height, np.int32),
            np.zeros(windows.width, np.int32),
            bounds,
            pool,
            posts,
            None,
            out,
        ),
        "floats" if folded else "always",
    )


def _pixels(builder: Builder, node: Node) -> Normalization | None:
    """The normalization, where a node takes nothing but uint8 pixels as they come in."""
    name = node.inputs[0]
    by_name = {n.name: n for n in builder.graph.nodes}
    while name in by_name and by_name[name].op == "reshape":
        name = by_name[name].inputs[0]
    taken = name in builder.graph.inputs
    return builder.normalization if taken and not builder.exact else None


def _pixel_product(
    builder: Builder,
    normalization: Normalization,
    geometry: Geometry,
    terms: list[Terms],
    weight: PackedArray,
    bias: Floats,
    bounds: tuple[float, float],
    pool: tuple[int, int],
    posts: tuple[Post, ...],
    out: View,
) -> bool:
    """The product of pixels as they are, with normalization in the scales and the bias.

    Returns:
        whether they lie so that it could be made.
    """
    channels, maps = len(normalization.mean), out.sizes[0]
    order = geometry.order
    linear = order is not None
    in_rows = order is None or np.array_equal(order, np.arange(geometry.channels))
    if maps != 1 or not in_rows:
        return False
    windows = geometry.windows(maps, geometry.sides, 0, planar=not linear)
    rows, row_taps = taps(geometry, 0)
    columns, column_taps = taps(geometry, 1)
    # The channel of each input, and whether it is inside of the image, for each class of positions.
    taken = geometry.channels // geometry.groups
    channel = np.indices((taken, *geometry.kernel))[0].ravel()
    if linear:
        channel = channel // (geometry.channels // channels)
    inside = row_taps[:, None, None, :, None] & column_taps[None, :, None, None, :]
    shape = (len(row_taps), len(column_taps), taken, *geometry.kernel)
    inside = np.broadcast_to(inside, shape).reshape(len(row_taps) * len(column_taps), -1)
    mean, std = (np.array(values, np.float64) for values in vars(normalization).values())
    folded = [
        term.folded((channel + (0 if linear else g * taken)) % channels, inside, mean, std, some)
        for g, (term, some) in enumerate(zip(terms, bias.reshape(geometry.groups, -1), strict=True))
    ]
    arrays = pack(
        [term for term, _ in folded], geometry.places(geometry.sides, planar=not linear), weight
    )
    shifted = np.stack([shift for _, shift in folded], 1)  # [classes, groups, outputs]
    data, (height, width) = 0, geometry.size
    if any(geometry.padding) or _reach(windows, arrays[1]) > geometry.channels * height * width:
        padded = (height + 2 * geometry.padding[0]) * (width + 2 * geometry.padding[1])
        data = builder.new(padded * geometry.channels, 1)
        place = PlacePixels(0, data, geometry.channels, height, width, geometry.sides)
        builder.add(place)
    step = Product(
        data,
        False,
        None,
        None,
        windows,
        geometry.outputs // geometry.groups,
        isinstance(weight, IntegerArray),
        *arrays,
        pad_to_panels(shifted),
        rows * np.int32(len(column_taps)),
        columns,
        bounds,
        pool,
        posts,
        None,
        out,
    )
    builder.add(step, "pixels")
    return True


def _reach(windows: Windows, offsets: Ints) -> int:
    """Elements up to the last that a product reads, four at a time."""
    last = (windows.height - 1) * windows.line + (windows.width - 1) * windows.pixel
    return int(last + (windows.groups - 1) * windows.group + offsets.max() + 4)


def _group_rows(geometry: Geometry) -> list[slice]:
    """The outputs of each group."""
    outputs = geometry.outputs // geometry.groups
    return [slice(g * outputs, (g + 1) * outputs) for g in range(geometry.groups)]


def pack(
    terms: list[Terms], places: NDArray[np.intp], weight: PackedArray
) -> tuple[NDArray[np.uint8], Ints, Ints, Floats, Ints]:
    """Codes, offsets, group_blocks, scales and sums of a `Product`."""
    first = terms[0]
    dwords, offsets, group_blocks = cut_into_dwords(places[first.inputs], first.group)
    codes, scales, sums = [], [], []
    for term in terms:
        # -scale × -trit is the same bit for bit; kernels count on scales that are not negative.
        values = term.trits * np.where(term.scales < 0, -1, 1).astype(np.int8)[:, term.group]
        codes.append(
            (pack_bytes if isinstance(weight, IntegerArray) else pack_codes)(values, dwords)
        )
        groups = range(term.scales.shape[1])
        scales.append(pad_to_panels(np.abs(term.scales).T))
        total = np.stack([values[:, term.group == g].sum(1, dtype=np.int32) for g in groups])
        sums.append(pad_to_panels(total, np.int32))
    return np.concatenate(codes), offsets, group_blocks, np.stack(scales), np.stack(sums)


def _float_product(
    builder: Builder,
    geometry: Geometry,
    view: View,
    weight: Floats,
    bias: Floats,
    bounds: tuple[float, float],
    posts: tuple[Post, ...],
    out: View,
) -> None:
    data, base = builder.padded(view, geometry.sides)
    windows = geometry.windows(view.sizes[0], geometry.sides, base, planar=False)
    outputs, groups = geometry.outputs // geometry.groups, geometry.groups
    inputs = geometry.channels // groups
    wide = weight.reshape(groups, outputs, inputs, -1)  # of taps
    offsets = np.zeros(1, np.int64)
    if geometry.order is not None:
        wide = wide[:, :, np.argsort(geometry.order)]
    else:
        offsets = geometry.places(geometry.sides, planar=False).reshape(inputs, -1)[0].copy()
    panels = -(-outputs // LANES)
    packed = pad_to_panels(wide.transpose(0, 3, 2, 1))  # [groups, taps, inputs, lanes]
    packed = packed.reshape(groups, -1, inputs, panels, LANES).transpose(0, 3, 1, 2, 4)
    builder.add(
        FloatProduct(
            data,
            windows,
            outputs,
            inputs,
            offsets.astype(np.int64),
            np.ascontiguousarray(packed),
            pad_to_panels(bias.reshape(groups, -1)),
            bounds,
            posts,
            out,
        )
    )


def _depthwise(
    builder: Builder,
    geometry: Geometry,
    view: View,
    weight: PackedArray | None,
    name: str,
    bias: Floats,
    bounds: tuple[float, float],
    posts: tuple[Post, ...],
    out: View,
) -> None:
    channels = geometry.channels
    panels = -(-channels // LANES)
    height, width = geometry.kernel
    scales, sums = NONE, NONE_INT
    scale: int | None = None
    zero: int | None = None
    size, padding = geometry.size, geometry.padding
    if weight is None or builder.exact:
        array = builder.graph.parameters[name] if weight is None else weight.dequantize()
        flat = pad_to_panels(array.reshape(channels, height, width).transpose(1, 2, 0))
        packed = flat.reshape(height, width, panels, LANES).transpose(2, 0, 1, 3)
        data, base = builder.padded(view, (0, 0, 0, 0))
    else:
        values = weight.trits if isinstance(weight, TernaryArray) else weight.values
        scales = pad_to_panels(np.broadcast_to(weight.scale[:, 0], channels))
        sums = pad_to_panels(values.sum(1, dtype=np.int32), np.int32)
        quads = -(-height // 4)
        taps = np.zeros((panels * LANES, quads * 4, width), np.int8)
        taps[:channels, :height] = values.reshape(channels, height, width)
        packed = taps.reshape(panels, LANES, quads, 4, width).transpose(0, 2, 4, 1, 3)
        found = builder.quantized(view, geometry.sides)
        data, scale, zero = found.data, found.scale, found.zero
        base = geometry.windows(1, found.padding, 0, planar=False).base
        top, left, bottom, right = found.padding
        size, padding = (size[0] + top + bottom, size[1] + left + right), (0, 0)
    builder.add(
        Depthwise(
            data,
            scale,
            zero,
            base,
            view.sizes[0],
            (*size, channels, *geometry.out_size),
            geometry.kernel,
            geometry.stride,
            padding,
            geometry.dilation,
            np.ascontiguousarray(packed),
            scales,
            sums,
            pad_to_panels(bias),
            bounds,
            posts,
            None,
            out,
        )
    )


def _bounds_of(node: Node) -> tuple[float, float]:
    """Least and greatest that a ReLU or clamp leaves."""
    if node.op == "relu":
        return 0.0, math.inf
    low, high = node.attributes["min"], node.attributes["max"]
    return -math.inf if low is None else float(low), math.inf if high is None else float(high)
