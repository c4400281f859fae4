"""Static ranges of activations: from what a file holds to the levels of 8 bits."""

import numpy as np

from tritbench.errors import TritbenchError
from tritbench.packing import Network
from tritbench.packing.ranges import sources, taken
from tritbench.packing.weights import Range
from tritbench.runtime.parts import Levels

f32 = np.float32


def static_ranges(network: Network) -> dict[str, Range]:
    """The ranges of what products take, by name; that of pixels follows from the normalization.

    A value that is another one in another shape has its range.

    Raises:
        TritbenchError: where the file holds none, and products need some.
    """
    packed = network.packed
    ranges = dict(packed.ranges)
    if network.normalization is not None:
        mean, std = (np.array(v, f32) for v in vars(network.normalization).values())
        ends = np.concatenate([(f32(0) - mean) / std, (f32(1) - mean) / std])
        (name,) = packed.graph.inputs
        ranges.setdefault(name, (float(min(ends.min(), 0)), float(max(ends.max(), 0))))
    if not packed.ranges and not taken(packed) <= ranges.keys():
        raise TritbenchError("static mode needs ranges of activations, and the file holds none")
    aliases = sources(packed.graph)
    return ranges | {name: ranges[of] for name, of in aliases.items() if of in ranges}


def levels(range: Range) -> tuple[Levels, np.float32]:
    """The levels of a range that holds 0, and their scale; each operation rounded to float32.

    >>> levels((-1.0, 3.0))
    (Levels(zero=64, inverse=63.75), np.float32(0.015686275))
    """
    low, high = map(f32, range)
    span = high - low
    inverse = f32(255) / span
    zero = min(np.rint(-low * inverse), 255)
    return Levels(int(zero), float(inverse)), span / f32(255)
