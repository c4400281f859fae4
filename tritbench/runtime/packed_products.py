"""Products with ternary or 8-bit weights as steps: terms, panels, and pixels as they come in.

A table says where each four inputs lie in the activations (native/kernels.h). That is all that sets
a convolution, a flattened map or a group of inputs apart from a dense layer.
"""

import numpy as np
from numpy.typing import NDArray

from tritbench.graph.graph import Node
from tritbench.packing import Normalization
from tritbench.packing.weights import IntegerArray, PackedArray
from tritbench.runtime.builder import Builder
from tritbench.runtime.geometry import Geometry
from tritbench.runtime.panels import cut_into_dwords, pack_bytes, pack_codes, pad_to_panels
from tritbench.runtime.parts import Post, View, Windows
from tritbench.runtime.steps import PlacePixels, Product
from tritbench.runtime.terms import Terms, make_terms, taps

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


def packed_product(
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
    """A `Product` of maps in `view`, and one of pixels where they come in here."""
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
        found = builder.quantized(view, geometry.sides, node.inputs[0])
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
