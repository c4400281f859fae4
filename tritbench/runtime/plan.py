"""From a packed network to what the native engine runs: stages of plain arrays.

Each weight layer becomes a `Stage`: its trits in the order in which the kernels read them
(native/kernels.h), with a table that says where each four inputs lie in the activations. That
table is all that sets a convolution, a flattened map or a group of inputs apart from a dense layer.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.packing import PackedLayer
from tritbench.runtime.chain import Chain
from tritbench.runtime.layers import Floats, Ints, fold_pixels, make_terms, pieces
from tritbench.runtime.panels import LANES, cut_into_dwords, pack_codes, pad_to_panels
from tritbench.shapes import InputSpec

KINDS = {"relu": 0, "affine": 1, "maxpool2d": 2, "avgpool2d": 3}
NONE: Floats = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Op:
    """A layer without weights; the names are those of native/network.h."""

    kind: int
    window_height: int = 0
    window_width: int = 0
    step_y: int = 0
    step_x: int = 0
    scale: Floats = field(default_factory=NONE.copy)
    bias: Floats = field(default_factory=NONE.copy)


@dataclass(frozen=True)
class Stage:
    """Weights and what follows up to the next weights; the names are those of native/network.h."""

    channels: int
    height: int
    width: int
    pad_y: int
    pad_x: int
    planar: bool
    outputs: int
    out_height: int
    out_width: int
    step_y: int
    step_x: int
    relu: bool
    codes: NDArray[np.uint8]
    offsets: Ints
    group_blocks: Ints
    sums: Ints
    scales: Floats
    bias: Floats
    pixel_scales: Floats
    pixel_bias: Floats
    row_class: Ints
    column_class: Ints
    ops: list[Op]


@dataclass(frozen=True)
class Plan:
    """A whole network; the names are those of native/network.h."""

    channels: int
    height: int
    width: int
    mean: float
    std: float
    input_ops: list[Op]
    stages: list[Stage]
    order: Ints


@dataclass
class _Map:
    """What flows between layers: `channels` × `height` × `width`, flattened or not."""

    channels: int
    height: int
    width: int
    flat: bool = False

    @property
    def size(self) -> int:
        return self.channels * self.height * self.width

    def interleaved(self) -> NDArray[np.intp]:
        """Where each element, counted channel by channel, lies in [height, width, channels]."""
        order = np.arange(self.size).reshape(self.height, self.width, self.channels)
        return order.transpose(2, 0, 1).ravel()


def make_plan(network: Chain) -> Plan:
    """Lay out a network for the engine.

    Raises:
        TritbenchError: for layers that do not fit each other.
    """
    channels, height, width = network.input.shape
    shape = _Map(channels, height, width)
    (_, before), *weighted = pieces(network.layers)
    if not weighted:
        raise TritbenchError("the network has no weights")
    input_ops = [] if _only_flattens(before) else _ops(before, shape)
    shape.flat |= any(layer.about["type"] == "flatten" for layer in before)
    stages: list[Stage] = []
    for layer, following in weighted:
        assert layer is not None
        first = not stages
        stages.append(
            _stage(layer, following, shape, network.input if first else None, not input_ops)
        )
    lanes = -(-shape.channels // LANES) * LANES
    pixel, channel = np.divmod(shape.interleaved(), shape.channels)
    return Plan(
        channels,
        height,
        width,
        *network.input.shared,
        input_ops,
        stages,
        (pixel * lanes + channel).astype(np.int32),
    )


def _only_flattens(layers: list[PackedLayer]) -> bool:
    return all(layer.about["type"] == "flatten" for layer in layers)


def _ops(layers: Iterable[PackedLayer], shape: _Map) -> list[Op]:
    """Layers without weights; `shape` becomes what they leave."""
    ops = []
    for layer in layers:
        about = layer.about
        match about["type"]:
            case "flatten":
                shape.flat = True
            case "relu":
                ops.append(Op(KINDS["relu"]))
            case "affine":
                ops.append(_affine(layer, shape))
            case "maxpool2d" | "avgpool2d" as kind:
                height, width = about["kernel"]
                step_y, step_x = about["stride"]
                if shape.flat or height > shape.height or width > shape.width:
                    raise TritbenchError(f"{about}: does not fit {shape}")
                shape.height = (shape.height - height) // step_y + 1
                shape.width = (shape.width - width) // step_x + 1
                ops.append(Op(KINDS[kind], height, width, step_y, step_x))
    return ops


def _affine(layer: PackedLayer, shape: _Map) -> Op:
    expected = shape.size if shape.flat else shape.channels
    scale, bias = layer.arrays["scale"], layer.arrays["bias"]
    if len(scale) != expected:
        raise TritbenchError(f"affine of {len(scale)} features: expected {expected}")
    if shape.flat:
        order = np.argsort(shape.interleaved())
        scale, bias = scale[order], bias[order]
    return Op(KINDS["affine"], scale=_floats(scale), bias=_floats(bias))


def _stage(
    layer: PackedLayer,
    following: list[PackedLayer],
    shape: _Map,
    spec: InputSpec | None,
    planar: bool,
) -> Stage:
    """One layer and those after it; `shape` becomes what they leave; `spec` is the first's."""
    about, bias = layer.about, layer.arrays["bias"]
    conv = about["type"] == "conv2d"
    planar = planar and spec is not None
    taken = shape.channels if conv else shape.size
    if taken != about["in"] or conv == shape.flat:
        raise TritbenchError(f"{about['type']} of {about['in']} inputs does not fit {shape}")
    kernel, stride, padding = (
        (about[key] if conv else default)
        for key, default in (
            ("kernel", [shape.height, shape.width]),
            ("stride", [1, 1]),
            ("padding", [0, 0]),
        )
    )
    height, width = (n + 2 * p for n, p in zip((shape.height, shape.width), padding, strict=True))
    out_height = (height - kernel[0]) // stride[0] + 1
    out_width = (width - kernel[1]) // stride[1] + 1
    if out_height < 1 or out_width < 1:
        raise TritbenchError(f"{about}: does not fit {shape}")
    terms = make_terms(layer)
    group = terms.group
    c, y, x = np.indices((shape.channels, *kernel)).reshape(3, -1)[:, terms.inputs]
    places = (c * height + y) * width + x if planar else (y * width + x) * shape.channels + c
    dwords, offsets, group_blocks = cut_into_dwords(places, group)
    # -scale × -trit is the same bit for bit; kernels count on scales that are not negative.
    trits = terms.trits * np.where(terms.scales < 0, -1, 1).astype(np.int8)[:, group]
    scales = np.abs(terms.scales)
    sums = np.stack([trits[:, group == g].sum(1) for g in range(scales.shape[1])], 1)
    pixel_scales, pixel_bias = NONE, NONE
    rows, columns = np.zeros(out_height, np.int32), np.zeros(out_width, np.int32)
    if spec is not None:
        rows, row_taps = _taps(shape.height, kernel[0], stride[0], padding[0], out_height)
        columns, column_taps = _taps(shape.width, kernel[1], stride[1], padding[1], out_width)
        inside = row_taps[:, None, None, :, None] & column_taps[None, :, None, None, :]
        inside = np.broadcast_to(
            inside, (len(row_taps), len(column_taps), shape.channels, *kernel)
        ).reshape(len(row_taps) * len(column_taps), 1, -1)[..., terms.inputs]
        met = np.stack(
            [(trits * inside)[..., group == g].sum(-1) for g in range(scales.shape[1])], -1
        )
        pixel_scales, pixel_bias = fold_pixels(scales, bias, met, spec)
        rows = rows * np.int32(len(column_taps))
    relu = bool(following) and following[0].about["type"] == "relu"
    result = Stage(
        channels=shape.channels,
        height=shape.height,
        width=shape.width,
        pad_y=padding[0],
        pad_x=padding[1],
        planar=planar,
        outputs=len(trits),
        out_height=out_height,
        out_width=out_width,
        step_y=stride[0],
        step_x=stride[1],
        relu=relu,
        codes=pack_codes(trits, dwords),
        offsets=offsets,
        group_blocks=group_blocks,
        sums=pad_to_panels(sums.T, np.int32),
        scales=pad_to_panels(scales.T),
        bias=pad_to_panels(bias),
        pixel_scales=pad_to_panels(pixel_scales.T),
        pixel_bias=pad_to_panels(pixel_bias),
        row_class=rows,
        column_class=columns,
        ops=[],
    )
    shape.channels, shape.height, shape.width = len(trits), out_height, out_width
    shape.flat = not conv
    result.ops.extend(_ops(following[1:] if relu else following, shape))
    return result


def _taps(
    size: int, kernel: int, stride: int, padding: int, count: int
) -> tuple[Ints, NDArray[np.bool_]]:
    """Which taps of a kernel lie inside the image, by class, and each output position's class.

    Returns:
        class of each position int32 [count]; inside [classes, kernel].
    """
    at = np.arange(count)[:, None] * stride + np.arange(kernel) - padding
    taps, classes = np.unique((at >= 0) & (at < size), axis=0, return_inverse=True)
    return classes.reshape(-1).astype(np.int32), taps


def _floats(values: NDArray[np.float32]) -> Floats:
    return np.ascontiguousarray(values, np.float32)
