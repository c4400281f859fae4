"""Trits as digits of bytes: 5 to a byte in base 3, 4 to a byte in two bits.

Rows are packed one by one, so that each begins at a whole byte. A strided slice holds every n-th
trit of all rows, and a few passes over such slices pack or unpack whole tensors.
"""

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError

Trits = NDArray[np.int8]
Bytes = NDArray[np.uint8]


def pack_base3(trits: Trits, per_byte: int = 5, width: int | None = None) -> Bytes:
    """`per_byte` trits (at most 5: 3^5 = 243 ≤ 256) a byte, each row padded with 0 trits.

    The byte is the sum of (trit + 1) × 3^i, the first trit at i = 0.

    Args:
        trits: int8 [rows, columns].
        per_byte: trits in a byte.
        width: bytes of a row; by default what its trits need.

    Returns:
        uint8 [rows, ceil(columns / per_byte)], or [rows, width].

    >>> pack_base3(np.array([[1, -1, 0, 0, 0, 1]], np.int8))
    array([[119, 122]], dtype=uint8)
    """
    rows, columns = trits.shape
    # Balanced sums lie in -121..121 and fit int8; the offset makes all digits non-negative.
    packed = np.zeros((rows, -(-columns // per_byte) if width is None else width), np.int8)
    for position in range(per_byte):
        part = trits[:, position::per_byte]
        packed[:, : part.shape[1]] += part * np.int8(3**position)
    return packed.view(np.uint8) + np.uint8(3**per_byte // 2)


def unpack_base3(
    packed: Bytes, rows: int, columns: int, per_byte: int = 5, width: int | None = None
) -> Trits:
    """The int8 trits [rows, columns] of what `pack_base3` made.

    Raises:
        TritbenchError: for a wrong shape, a code of 3^per_byte or more, or padding that is not 0.
    """
    _expect(packed, (rows, -(-columns // per_byte) if width is None else width))
    largest = int(packed.max(initial=0))
    if largest >= 3**per_byte:
        raise TritbenchError(f"code {largest}: expected at most {3**per_byte - 1}")
    whole, over = divmod(columns, per_byte)
    padding = packed[:, whole:].copy()
    padding[:, : over > 0] //= 3**over
    expected = np.full(padding.shape[1], 3**per_byte // 2)
    expected[: over > 0] = 3 ** (per_byte - over) // 2
    if (padding != expected).any():
        raise TritbenchError("padding at a row's end is not zero")
    trits = np.empty((rows, columns), np.int8)
    rest = packed
    for position in range(per_byte):
        part = trits[:, position::per_byte]
        quotient = rest // np.uint8(3)
        digit = rest - quotient * np.uint8(3)
        np.subtract(digit[:, : part.shape[1]].view(np.int8), 1, out=part)
        rest = quotient
    return trits


def pack_2bit(trits: Trits) -> Bytes:
    """Four trits a byte as two's complement (0 is 00, +1 is 01, -1 is 11), the first lowest.

    So the low bit says whether a weight is there and the high bit its sign. Rows are padded with 0.

    Returns:
        uint8 [rows, ceil(columns / 4)].

    >>> pack_2bit(np.array([[1, -1, 0, 0, 1]], np.int8))
    array([[13,  1]], dtype=uint8)
    """
    rows, columns = trits.shape
    packed = np.zeros((rows, -(-columns // 4)), np.uint8)
    for position in range(4):
        part = trits[:, position::4].view(np.uint8)
        packed[:, : part.shape[1]] |= (part & np.uint8(3)) << np.uint8(2 * position)
    return packed


def unpack_2bit(packed: Bytes, rows: int, columns: int) -> Trits:
    """The int8 trits [rows, columns] of what `pack_2bit` made.

    Raises:
        TritbenchError: for a wrong shape, the code 10, or padding that is not 0.
    """
    _expect(packed, (rows, -(-columns // 4)))
    if (packed & ~(packed << np.uint8(1)) & np.uint8(0b10101010)).any():
        raise TritbenchError("code 2 (binary 10): expected 0, 1 or 3")
    if columns % 4 and (packed[:, -1] >> np.uint8(columns % 4 * 2)).any():
        raise TritbenchError("padding at a row's end is not zero")
    trits = np.empty((rows, columns), np.int8)
    for position in range(4):
        part = trits[:, position::4]
        # Shifting left and back again extends the sign.
        raised = packed[:, : part.shape[1]] << np.uint8(6 - 2 * position)
        np.right_shift(raised.view(np.int8), 6, out=part)
    return trits


def _expect(packed: Bytes, shape: tuple[int, int]) -> None:
    if packed.dtype != np.uint8 or packed.shape != shape:
        found = f"{packed.dtype} {list(packed.shape)}"
        raise TritbenchError(f"found {found}, expected uint8 {list(shape)}")
