"""Products with float weights, and depthwise convolutions, as steps."""

import numpy as np
from numpy.typing import NDArray

from tritbench.graph.graph import Node
from tritbench.packing.weights import PackedArray, TernaryArray
from tritbench.runtime.builder import Builder
from tritbench.runtime.geometry import Geometry
from tritbench.runtime.panels import LANES, pad_to_panels
from tritbench.runtime.parts import Post, View
from tritbench.runtime.steps import Depthwise, FloatProduct

Floats = NDArray[np.float32]
NONE_INT: NDArray[np.int32] = np.zeros(0, np.int32)
NONE: Floats = np.zeros(0, np.float32)


def float_product(
    builder: Builder,
    geometry: Geometry,
    view: View,
    weight: Floats,
    bias: Floats,
    bounds: tuple[float, float],
    posts: tuple[Post, ...],
    out: View,
) -> None:
    """A `FloatProduct` of maps in `view`, and what it needs before it."""
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


def depthwise(
    builder: Builder,
    node: Node,
    geometry: Geometry,
    view: View,
    weight: PackedArray | None,
    bias: Floats,
    bounds: tuple[float, float],
    posts: tuple[Post, ...],
    out: View,
) -> None:
    """A `Depthwise` of maps in `view`: in 8 bits, or of floats where `weight` is None."""
    channels = geometry.channels
    panels = -(-channels // LANES)
    height, width = geometry.kernel
    scales, sums = NONE, NONE_INT
    scale: int | None = None
    zero: int | None = None
    size, padding = geometry.size, geometry.padding
    if weight is None or builder.exact:
        array = (
            builder.graph.parameters[str(node.inputs[1])] if weight is None else weight.dequantize()
        )
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
        found = builder.quantized(view, geometry.sides, node.inputs[0])
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
            None,
            out,
        )
    )
