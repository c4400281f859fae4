"""Codecs: int8 trits [rows, columns] to bytes and back, one pair of functions each."""

from collections.abc import Callable
from dataclasses import dataclass

from tritbench.packing.digits import (
    Bytes,
    Trits,
    pack_2bit,
    pack_base3,
    unpack_2bit,
    unpack_base3,
)
from tritbench.packing.entropy import pack_entropy, unpack_entropy
from tritbench.packing.t81 import pack_limbs, unpack_limbs
from tritbench.registry import Registry


@dataclass(frozen=True)
class Codec:
    """A pair of functions that are each other's inverse.

    `unpack(packed, rows, columns)` raises a TritbenchError for bytes that `pack` cannot have made.
    """

    pack: Callable[[Trits], Bytes]
    unpack: Callable[[Bytes, int, int], Trits]


CODECS: Registry[Codec] = Registry(
    "codecs",
    Codec,
    {
        "base3": Codec(pack_base3, unpack_base3),
        "2bit": Codec(pack_2bit, unpack_2bit),
        "entropy": Codec(pack_entropy, unpack_entropy),
        "t81": Codec(pack_limbs, unpack_limbs),
    },
)
