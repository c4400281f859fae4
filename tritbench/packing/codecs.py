"""Codecs: int8 trits [rows, columns] to bytes and back, one pair of functions each."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError

Trits = NDArray[np.int8]
Bytes = NDArray[np.uint8]

TRITS_PER_BYTE = 5  # 3^5 = 243 ≤ 256
CODES = 3**TRITS_PER_BYTE
_POWERS = 3 ** np.arange(TRITS_PER_BYTE, dtype=np.uint16)
_DECODED = (np.arange(CODES)[:, None] // _POWERS % 3).astype(np.int8) - np.int8(1)


def pack_base3(trits: Trits) -> Bytes:
    """Five trits a byte, each row padded with 0 trits to whole bytes.

    The byte is the sum of (trit + 1) × 3^i, the first trit at i = 0.

    Returns:
        uint8 [rows, ceil(columns / 5)].

    >>> pack_base3(np.array([[1, -1, 0, 0, 0, 1]], np.int8))
    array([[119, 122]], dtype=uint8)
    """
    rows, columns = trits.shape
    padded = np.zeros((rows, -(-columns // TRITS_PER_BYTE) * TRITS_PER_BYTE), np.int8)
    padded[:, :columns] = trits
    digits = (padded + 1).astype(np.uint8).reshape(rows, -1, TRITS_PER_BYTE)
    packed = digits[..., TRITS_PER_BYTE - 1]
    for position in range(TRITS_PER_BYTE - 2, -1, -1):
        packed = packed * 3 + digits[..., position]
    return packed


def unpack_base3(packed: Bytes, columns: int) -> Trits:
    """The int8 trits [rows, columns] of what `pack_base3` made.

    Raises:
        TritbenchError: for a wrong width, a code over 242, or padding that is not 0 trits.
    """
    width = -(-columns // TRITS_PER_BYTE)
    if packed.ndim != 2 or packed.shape[1] != width:
        raise TritbenchError(f"shape {packed.shape}: expected [rows, {width}] for {columns} trits")
    if packed.size and packed.max() >= CODES:
        raise TritbenchError(f"code {packed.max()}: expected at most {CODES - 1}")
    trits = _DECODED[packed].reshape(len(packed), -1)
    if trits[:, columns:].any():
        raise TritbenchError("padding at a row's end is not zero")
    return np.ascontiguousarray(trits[:, :columns])


@dataclass(frozen=True)
class Codec:
    """A pair of functions that are each other's inverse."""

    pack: Callable[[Trits], Bytes]
    unpack: Callable[[Bytes, int], Trits]


CODECS = {"base3": Codec(pack_base3, unpack_base3)}
