"""The steps of a Program: what one call of a function in `native/` does, one dataclass each.

Fields stand in the order in which `native/` reads them. Sizes are for one image; a step works on
every image of a batch in the same way. Maps are [maps, height, width, channels].
"""

from dataclasses import dataclass

from tritbench.runtime.parts import Array, Levels, Post, Requantize, View, Windows


@dataclass(frozen=True)
class Check:
    """Whether each image is finite; one that is not gives NaN."""

    x: int
    count: int


@dataclass(frozen=True)
class Normalize:
    """(x - mean) / std for each channel of [channels, area]; x = pixel / 255 for uint8."""

    x: int
    out: int
    pixels: bool
    area: int
    mean: Array
    std: Array


@dataclass(frozen=True)
class Indices:
    """int64 as int32; what does not fit is -1."""

    x: int
    out: int
    count: int


@dataclass(frozen=True)
class PlacePixels:
    """uint8 [channels, height, width] with zeros around."""

    x: int
    out: int
    channels: int
    height: int
    width: int
    padding: tuple[int, ...]  # top, left, bottom, right


@dataclass(frozen=True)
class Quantize:
    """Each map as 8 bits, padded with the zero point.

    It is `levels`; without, each map has a scale and a zero point of its own. The least and
    greatest of its one map are then in `pairs` pairs of `ranges`, where that is not None.
    """

    x: View
    padding: tuple[int, ...]  # top, left, bottom, right
    data: int
    scale: int | None
    zero: int | None
    ranges: int | None
    pairs: int
    levels: Levels | None


@dataclass(frozen=True)
class Pad:
    """Float maps with zeros around."""

    x: View
    padding: tuple[int, ...]  # top, left, bottom, right
    out: int


@dataclass(frozen=True)
class Product:
    """Rows of activations times ternary or 8-bit weights (native/kernels.h), then `posts`.

    Attributes:
        data: uint8, or float32 without scale and zero.
        exact: whether data are float32.
        scale: float32 of each map; None is 1.
        zero: int32 of each map; None is 0.
        windows: the rows.
        outputs: of each group.
        integer: whether weights are 8-bit.
        codes: uint8 [groups × panels, blocks, 64 or 256].
        offsets: int32 [blocks, 4].
        group_blocks: int32 [scales of a row].
        scales: float32 [groups, scales, lanes].
        sums: int32 [groups, scales, lanes].
        bias: float32 [classes, groups, lanes].
        row_class: of each line of positions, int32 [height].
        column_class: int32 [width].
        bounds: least and greatest of an output.
        pool: (0, 0), or the steps of 2×2 max-pooling; `windows` are then those before it.
        posts: what follows.
        ranges: least and greatest of each 16 rows of the result.
        requantize: the result in 8 bits.
        out: float32 [maps, height, width, groups × outputs]; in no buffer (-1) where `requantize`
            has all that is needed.
    """

    data: int
    exact: bool
    scale: int | None
    zero: int | None
    windows: Windows
    outputs: int
    integer: bool
    codes: Array
    offsets: Array
    group_blocks: Array
    scales: Array
    sums: Array
    bias: Array
    row_class: Array
    column_class: Array
    bounds: tuple[float, float]
    pool: tuple[int, ...]
    posts: tuple[Post, ...]
    ranges: int | None
    requantize: Requantize | None
    out: View


@dataclass(frozen=True)
class FloatProduct:
    """Rows of float32 times float32 weights, then `posts`.

    Attributes:
        data: padded maps.
        windows: the rows.
        outputs: of each group.
        inputs: of a tap.
        offsets: where a tap's inputs begin, int64 [taps].
        weights: float32 [groups, panels, taps, inputs, 16].
        bias: float32 [groups, panels × 16].
        bounds: least and greatest of an output.
        posts: what follows.
        out: maps.
    """

    data: int
    windows: Windows
    outputs: int
    inputs: int
    offsets: Array
    weights: Array
    bias: Array
    bounds: tuple[float, float]
    posts: tuple[Post, ...]
    out: View


@dataclass(frozen=True)
class Depthwise:
    """A convolution of each channel with one filter (native/float_kernels.h).

    Attributes:
        data: uint8 maps with scale, zero point and padding, or float32 maps without.
        scale: of each map; None for float32.
        zero: the same.
        base: of the first map, elements.
        maps: how many.
        size: height and width of a map, channels, and output height and width.
        kernel: height and width.
        stride: of both.
        padding: above and left of a map; zeros where it has its padding in it.
        dilation: of both.
        weights: int8 [panels, ⌈height / 4⌉, width, 16, 4] or float32 [panels, height, width, 16].
        scales: float32 [panels × 16]; of float32 none.
        sums: int32 [panels × 16], of int8 weights; of float32 none.
        bias: float32 [panels × 16].
        bounds: least and greatest of an output.
        posts: what follows.
        ranges: least and greatest of each line of the result.
        requantize: as in `Product`.
        out: maps.
    """

    data: int
    scale: int | None
    zero: int | None
    base: int
    maps: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    weights: Array
    scales: Array
    sums: Array
    bias: Array
    bounds: tuple[float, float]
    posts: tuple[Post, ...]
    ranges: int | None
    requantize: Requantize | None
    out: View


@dataclass(frozen=True)
class Elementwise:
    """`posts` of x; all views have the same sizes."""

    x: View
    posts: tuple[Post, ...]
    out: View


@dataclass(frozen=True)
class Reduce:
    """Over the last `dims` dimensions of x, one after another; out has the others."""

    x: View
    dims: int
    how: str  # of REDUCTIONS
    order: float  # of the norm
    out: View


@dataclass(frozen=True)
class Pool:
    """Windows that slide over maps without gaps: the greatest of each, or their average.

    An average is by the values of a window, those of the padding among them where
    `include_padding`; or by `divisor` where that is not 0.
    """

    x: View
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    average: bool
    include_padding: bool
    divisor: int
    out: View


@dataclass(frozen=True)
class AdaptivePool:
    """The greatest, or the average, of rows `top` to `bottom` and columns `left` to `right`."""

    x: View
    top: Array
    bottom: Array
    left: Array
    right: Array
    average: bool
    out: View


@dataclass(frozen=True)
class Softmax:
    """Along the last dimension; its logarithm where `log`."""

    x: View
    log: bool
    out: View


@dataclass(frozen=True)
class LayerNorm:
    """(x - mean) / sqrt(variance + eps) × weight + bias of rows [rows, n]."""

    x: View
    eps: float
    weight: Array  # [n], or none
    bias: Array
    out: View


@dataclass(frozen=True)
class GroupNorm:
    """The same of maps [maps, pixels, channels], over neighbouring channels in `groups`."""

    x: View
    groups: int
    eps: float
    weight: Array  # [channels], or none
    bias: Array
    out: View


@dataclass(frozen=True)
class Attention:
    """softmax(query × keyᵀ × scale + mask) × value; views are [.., .., .., rows, features]."""

    query: View
    key: View
    value: View
    mask: View | None
    causal: bool
    scale: float
    out: View


@dataclass(frozen=True)
class MatMul:
    """[…, rows, inner] × […, inner, columns], three leading dimensions."""

    x: View
    y: View
    out: View


@dataclass(frozen=True)
class Copy:
    """Elements as they are."""

    x: View
    out: View


@dataclass(frozen=True)
class Gather:
    """Of [outer, n, inner] what `table` says, or `fill` where it is -1: [outer, m, inner]."""

    x: View
    table: Array
    fill: float
    out: View


@dataclass(frozen=True)
class Embedding:
    """Rows of `weights` [entries, features] at int32 indices [rows]."""

    indices: View
    weights: Array
    out: View


Step = (
    Check
    | Normalize
    | Indices
    | PlacePixels
    | Quantize
    | Pad
    | Product
    | FloatProduct
    | Depthwise
    | Elementwise
    | Reduce
    | Pool
    | AdaptivePool
    | Softmax
    | LayerNorm
    | GroupNorm
    | Attention
    | MatMul
    | Copy
    | Gather
    | Embedding
)
