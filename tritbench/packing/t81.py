"""t81lib's limbs: 48 trits in 16 bytes, byte for byte what t81lib 0.1.0 makes (2.67 bits a weight).

A byte of a limb is a tryte: three trits, the first lowest, as the sum of (trit + 1) × 3^i.
"""

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.packing.digits import Bytes, Trits, pack_base3, unpack_base3

LIMB_TRITS = 48
LIMB_BYTES = 16
_TRYTE = LIMB_TRITS // LIMB_BYTES


def pack_dense_matrix(x: NDArray[np.floating], threshold: float) -> Bytes:
    """Limbs of the trits of a matrix, as `t81lib.pack_dense_matrix`.

    Args:
        x: floats [rows, columns].
        threshold: in (0, 1], as in `quantize_to_trits`.

    Returns:
        uint8 [rows, ceil(columns / 48), 16].

    Raises:
        ValueError: for another threshold, or `x` that is not a matrix.

    >>> pack_dense_matrix(np.array([[0.9, -0.9, 0.1]]), 0.5)[0, 0, :4]
    array([11, 13, 13, 13], dtype=uint8)
    """
    if np.ndim(x) != 2:
        raise ValueError(f"x is {np.ndim(x)}-d: expected a matrix [rows, columns]")
    from tritbench.quantize import quantize_to_trits  # which brings PyTorch

    return pack_limbs(quantize_to_trits(x, threshold))


def unpack_dense_matrix(limbs: Bytes, columns: int) -> Trits:
    """The int8 trits [rows, columns] in limbs uint8 [rows, ceil(columns / 48), 16].

    Raises:
        TritbenchError: for a wrong shape, a tryte over 26, or padding that is not 0 trits.
    """
    return unpack_limbs(limbs, len(limbs), columns)


def pack_limbs(trits: Trits) -> Bytes:
    """Limbs uint8 [rows, ceil(columns / 48), 16] of int8 trits [rows, columns]."""
    rows, columns = trits.shape
    width = -(-columns // LIMB_TRITS) * LIMB_BYTES
    return pack_base3(trits, _TRYTE, width).reshape(rows, -1, LIMB_BYTES)


def unpack_limbs(limbs: Bytes, rows: int, columns: int) -> Trits:
    """The inverse of `pack_limbs`.

    Raises:
        TritbenchError: for a wrong shape, a tryte over 26, or padding that is not 0 trits.
    """
    count = -(-columns // LIMB_TRITS)
    if limbs.dtype != np.uint8 or limbs.shape != (rows, count, LIMB_BYTES):
        found = f"{limbs.dtype} {list(limbs.shape)}"
        raise TritbenchError(f"found {found}, expected uint8 {[rows, count, LIMB_BYTES]}")
    flat = limbs.reshape(rows, count * LIMB_BYTES)
    return unpack_base3(flat, rows, columns, _TRYTE, count * LIMB_BYTES)
