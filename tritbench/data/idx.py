"""IDX files, the format of MNIST: a big-endian header and the bytes of one array, gzipped.

Header: two zero bytes, the type (8 is uint8), the number of dimensions, each dimension as uint32.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError

LARGEST = 4 * 2**30  # bytes an array may have
_CHUNK = 2**20
_STORED = 65_535  # bytes a stored block of deflate can hold


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of bytes with this many dimensions.

    Memory is bounded by what the file holds and by what its header declares, so neither a wrong
    header nor a gzip bomb can exhaust it.

    Raises:
        TritbenchError: naming the file, what was found and what was expected.
    """
    try:
        with path.open("rb") as raw:
            start = raw.read(2)
            if start != b"\x1f\x8b":
                raise TritbenchError(
                    f"{path}: starts with {start.hex() or 'nothing'}, expected gzip (1f8b)"
                )
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) as file:
                return read_array(path, file, dimensions)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise TritbenchError(f"{path}: no such file, expected a gzipped IDX file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TritbenchError(f"{path}: found damaged gzip ({error}), expected IDX") from None


def read_array(path: Path, file: IO[bytes] | gzip.GzipFile, dimensions: int) -> NDArray[np.uint8]:
    """The array in an open, uncompressed IDX file; `path` stands in errors.

    Raises:
        TritbenchError: naming what was found and what was expected.
    """
    magic, expected = file.read(4), bytes([0, 0, 8, dimensions])
    if magic != expected:
        raise TritbenchError(f"{path}: magic is 0x{magic.hex()}, expected 0x{expected.hex()}")
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise TritbenchError(f"{path}: header ends early, expected {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", sizes)
    declared = math.prod(shape)
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
    return np.frombuffer(payload, np.uint8).reshape(shape)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """The content of a gzipped IDX file, the same on every platform.

    What a compressor returns differs between zlib versions, so the blocks are stored as they are.

    >>> gzip.decompress(idx_bytes(np.array([7, 9], np.uint8))).hex(" ", 4)
    '0000 08010000 00020709'
    """
    if array.dtype != np.uint8:
        raise ValueError(f"array must be uint8, got {array.dtype}")
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    blocks = [b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"]  # deflate, no name, no time, any system
    for start in range(0, len(content), _STORED):
        block = content[start : start + _STORED]
        last = start + _STORED >= len(content)
        blocks += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    blocks.append(struct.pack("<II", zlib.crc32(content), len(content) % 2**32))
    return b"".join(blocks)
