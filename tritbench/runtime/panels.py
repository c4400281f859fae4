"""Trits as the kernels read them: panels of 16 outputs, blocks of 4 × 4 inputs at 2 bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]

LANES = 16  # outputs in a panel
DWORDS = 4  # in a block, of four inputs each


def cut_into_dwords(places: NDArray[np.intp], group: Ints) -> tuple[NDArray[np.intp], Ints, Ints]:
    """Cut the inputs of each group, in the order of their places, into runs of four elements.

    Returns:
        the input at each element of each run, -1 for none, [dwords, 4]; the place where each run
        begins, int32 [dwords]; the block after each group's last, int32 [groups].
    """
    inputs: list[list[int]] = []
    offsets: list[int] = []
    group_blocks = []
    for g in range(int(group[-1]) + 1):
        members, start = np.flatnonzero(group == g), len(offsets)
        for k in members[np.argsort(places[members], kind="stable")].tolist():
            place = int(places[k])
            if len(offsets) == start or place >= offsets[-1] + 4:
                offsets.append(place)
                inputs.append([-1] * 4)
            inputs[-1][place - offsets[-1]] = k
        while len(offsets) % DWORDS:
            offsets.append(offsets[-1])
            inputs.append([-1] * 4)
        group_blocks.append(len(offsets) // DWORDS)
    return (
        np.array(inputs, np.intp),
        np.array(offsets, np.int32),
        np.array(group_blocks, np.int32),
    )


def pack_codes(trits: NDArray[np.int8], dwords: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Trits as 2-bit codes, uint8 [panels, blocks, 64]: see native/kernels.h."""
    outputs = len(trits)
    padded = np.zeros((-(-outputs // LANES) * LANES, trits.shape[1] + 1), np.uint8)
    padded[:outputs, :-1] = trits & 3  # two's complement; the last column is for no input
    codes = padded[:, dwords.ravel()].reshape(-1, LANES, len(dwords) // DWORDS, DWORDS, 4)
    shifted = codes << np.array([0, 2, 4, 6], np.uint8)[:, None]
    joined = np.bitwise_or.reduce(shifted, axis=3)  # [panels, 16, blocks, 4]
    return np.ascontiguousarray(joined.transpose(0, 2, 1, 3)).reshape(
        len(padded) // LANES, -1, 4 * LANES
    )


def pack_bytes(values: NDArray[np.int8], dwords: NDArray[np.intp]) -> NDArray[np.uint8]:
    """8-bit weights a byte each, uint8 [panels, blocks, 256]: `Decoded` in native/kernels.h."""
    outputs = len(values)
    padded = np.zeros((-(-outputs // LANES) * LANES, values.shape[1] + 1), np.uint8)
    padded[:outputs, :-1] = values.view(np.uint8)
    codes = padded[:, dwords.ravel()].reshape(-1, LANES, len(dwords) // DWORDS, DWORDS, 4)
    return np.ascontiguousarray(codes.transpose(0, 2, 3, 1, 4)).reshape(
        len(padded) // LANES, -1, DWORDS * 4 * LANES
    )


def pad_to_panels(values: NDArray[Any], dtype: type = np.float32) -> NDArray[Any]:
    """[..., outputs] with zeros up to whole panels."""
    spare = -values.shape[-1] % LANES
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, spare)])
    return np.ascontiguousarray(padded, dtype)


def unpack_codes(codes: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The trits of `pack_codes`, int8 [panels × 16, blocks × 16], in the order of the table."""
    panels, blocks, _ = codes.shape
    shifts = np.array([6, 4, 2, 0], np.uint8)
    wide = codes.reshape(panels, blocks, LANES, 4)[..., None] << shifts  # the trit on top
    trits = (wide.view(np.int8) >> 6).transpose(0, 2, 1, 4, 3)  # [panels, 16, blocks, dword, 4]
    return trits.reshape(panels * LANES, -1)


def unpack_bytes(codes: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The weights of `pack_bytes`, int8 [panels × 16, blocks × 16]."""
    panels, blocks, _ = codes.shape
    wide = codes.view(np.int8).reshape(panels, blocks, DWORDS, LANES, 4)
    return wide.transpose(0, 3, 1, 2, 4).reshape(panels * LANES, -1)
