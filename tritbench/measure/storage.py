"""What a model weighs: its arrays, its file, bits a weight."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tritbench.packing.entropy import entropy


@dataclass(frozen=True)
class Storage:
    """Sizes in bytes; `bytes` is that of the stored arrays, `zeros` the share of 0 trits.

    `entropy_bits` are the bits a weight that trits with each layer's frequencies cannot go below
    when each is coded alone; scales and biases come on top.
    """

    bytes: int
    file_bytes: int
    bits_per_weight: float
    zeros: float | None = None
    entropy_bits: float | None = None


def ternary_storage(
    path: Path, stored: Mapping[str, NDArray[Any]], trits: Iterable[NDArray[Any]]
) -> Storage:
    """Of a .trit file, from its arrays as stored and the trits they decode to."""
    total = sum(array.nbytes for array in stored.values())
    layers = list(trits)
    weights = sum(layer.size for layer in layers)
    zeros = sum(int((layer == 0).sum()) for layer in layers)
    bits = sum(layer.size * entropy(layer) for layer in layers)
    return Storage(total, path.stat().st_size, 8 * total / weights, zeros / weights, bits / weights)


def float_storage(path: Path, weights: int, biases: int) -> Storage:
    """Of a float32 network with so many weights and biases, 4 bytes each."""
    total = 4 * (weights + biases)
    return Storage(total, path.stat().st_size, 8 * total / weights)
