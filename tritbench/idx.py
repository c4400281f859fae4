"""IDX files, the format of MNIST: a big-endian header and the items of one array, gzipped or not.

Header: two zero bytes, the type (8 is uint8, 12 is int32), the number of dimensions, each dimension
as uint32.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.files import open_regular

LARGEST = 4 * 2**30  # bytes an array may have
GZIP = b"\x1f\x8b"  # how such a file starts
_CHUNK = 2**20
_STORED = 65_535  # bytes a stored block of deflate can hold
_CHANNELS = (1, 3)
_UINT8, _INT32 = 8, 12
_DTYPES: dict[int, np.dtype[Any]] = {_UINT8: np.dtype(np.uint8), _INT32: np.dtype(">i4")}


def read_images(path: Path) -> NDArray[np.uint8]:
    """The images of an IDX file, [n, channels, height, width].

    The file has three dimensions, [n, height, width], or four. Then the axis of length 1 or 3 is
    that of the channels: the second, [n, channels, height, width], or the last.

    Raises:
        TritbenchError: naming the file, what was found and what was expected.
    """
    return with_channels(read_idx(path, [3, 4]), str(path))


def with_channels(images: NDArray[Any], name: str) -> NDArray[Any]:
    """Images of three dimensions, [n, height, width], or four as [n, channels, height, width].

    Raises:
        TritbenchError: beginning with `name`, where not one axis is that of 1 or 3 channels.
    """
    if images.ndim == 3:
        return images[:, None]
    shape = images.shape[1:]
    first, last = shape[0] in _CHANNELS, shape[-1] in _CHANNELS
    if first == last:
        found = " × ".join(map(str, shape))
        raise TritbenchError(
            f"{name}: images are {found}, expected 1 or 3 channels as the first or the last of "
            "these, not both"
        )
    return images if first else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def read_labels(path: Path) -> NDArray[np.int64]:
    """The labels of an IDX file, [n], of uint8 or int32; none is negative.

    Raises:
        TritbenchError: naming the file, what was found and what was expected.
    """
    labels = read_idx(path, [1], [_UINT8, _INT32]).astype(np.int64)
    if labels.size and labels.min() < 0:
        raise TritbenchError(f"{path}: found label {labels.min()}, expected 0 and more")
    return labels


def read_idx(path: Path, ranks: Sequence[int], types: Sequence[int] = (_UINT8,)) -> NDArray[Any]:
    """Read an IDX file with one of these numbers of dimensions and one of these types.

    Memory is bounded by what the file holds and by what its header declares, so neither a wrong
    header nor a gzip bomb can exhaust it.

    Raises:
        TritbenchError: naming the file, what was found and what was expected.
    """
    magics = [bytes([0, 0, kind, rank]) for kind in types for rank in ranks]
    with open_regular(path) as raw:
        start = raw.read(2)
        raw.seek(0)
        if start == magics[0][:2]:
            return _read_array(path, raw, magics)
        if start != GZIP:
            found = start.hex() or "nothing"
            raise TritbenchError(f"{path}: starts with {found}, expected gzip (1f8b) or IDX (0000)")
        try:
            with gzip.GzipFile(fileobj=raw) as file:
                return _read_array(path, file, magics)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise TritbenchError(f"{path}: found damaged gzip ({error}), expected IDX") from None


def _read_array(path: Path, file: IO[bytes] | gzip.GzipFile, magics: list[bytes]) -> NDArray[Any]:
    magic = file.read(4)
    if magic not in magics:
        expected = " or ".join(f"0x{known.hex()}" for known in magics)
        raise TritbenchError(f"{path}: magic is 0x{magic.hex()}, expected {expected}")
    dtype, rank = _DTYPES[magic[2]], magic[3]
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise TritbenchError(f"{path}: header ends early, expected {rank} dimensions")
    shape = struct.unpack(f">{rank}I", sizes)
    declared = math.prod(shape) * dtype.itemsize
    if declared > LARGEST:
        raise TritbenchError(
            f"{path}: header declares {declared} bytes, expected {LARGEST} at most"
        )
    payload = bytearray()
    # One byte more than declared: it shows a payload that is too long, and at the end of a right
    # one it makes gzip check its CRC.
    while chunk := file.read(min(_CHUNK, declared + 1 - len(payload))):
        payload += chunk
    if len(payload) != declared:
        found = f"{len(payload)}" if len(payload) < declared else f"more than {declared}"
        raise TritbenchError(f"{path}: found {found} bytes, expected {declared} for shape {shape}")
    return np.frombuffer(payload, dtype).reshape(shape)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """The content of a gzipped IDX file, the same on every platform.

    >>> gzip.decompress(idx_bytes(np.array([7, 9], np.uint8))).hex(" ", 4)
    '0000 08010000 00020709'
    """
    if array.dtype != np.uint8:
        raise ValueError(f"array must be uint8, got {array.dtype}")
    header = struct.pack(f">HBB{array.ndim}I", 0, _UINT8, array.ndim, *array.shape)
    return gzip_bytes(header + array.tobytes())


def gzip_bytes(content: bytes) -> bytes:
    """The content as a gzip file, the same on every platform.

    What a compressor returns differs between zlib versions, so the blocks are stored as they are.
    """
    blocks = [b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"]  # deflate, no name, no time, any system
    for start in range(0, len(content), _STORED):
        block = content[start : start + _STORED]
        last = start + _STORED >= len(content)
        blocks += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    blocks.append(struct.pack("<II", zlib.crc32(content), len(content) % 2**32))
    return b"".join(blocks)
