"""The safetensors container, written in one order and read strictly.

The format: the header's length as uint64, the header as JSON, the arrays one after another, all
little-endian. The safetensors package reads what `write_container` writes. It is not used here:
it writes metadata in an order that changes from run to run, and it takes headers of 100 MB.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError

MAX_HEADER = 2**20  # bytes
MOST_DIMENSIONS = 8
_DTYPES: dict[str, np.dtype[Any]] = {
    "I64": np.dtype("<i8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

Arrays = dict[str, NDArray[Any]]


def write_container(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file; arrays of large items come first.

    >>> read_container(write_container({"a": np.zeros(2, np.uint8)}, {"by": "me"}))
    ({'a': array([0, 0], dtype=uint8)}, {'by': 'me'})
    """
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    content = []
    end = 0
    for name in order:
        data = np.ascontiguousarray(arrays[name]).tobytes()
        begin, end = end, end + len(data)
        header[name] = {
            "dtype": _NAMES[arrays[name].dtype],
            "shape": list(arrays[name].shape),
            "data_offsets": [begin, end],
        }
        content.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *content])


def read_container(data: bytes) -> tuple[Arrays, dict[str, str]]:
    """The arrays by name, as read-only views of `data`, and the metadata.

    Raises:
        TritbenchError: unless every byte of the header and of the arrays is accounted for.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise TritbenchError(f"truncated: {len(data)} bytes, expected a header of {length} and 8")
    if length > MAX_HEADER:
        raise TritbenchError(f"the header has {length} bytes, expected at most {MAX_HEADER}")
    header = parse_json(data[8 : 8 + length], "the header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise TritbenchError("__metadata__ is not an object of strings")
    spans = sorted((_span(name, entry), name) for name, entry in header.items())
    arrays: Arrays = {}
    expected = 0
    for (begin, end, dtype, shape), name in spans:
        if begin != expected:
            fault = "overlaps what is before it" if begin < expected else "leaves a gap before it"
            raise TritbenchError(f"{name} begins at {begin} and {fault}, expected {expected}")
        if 8 + length + end > len(data):
            raise TritbenchError(
                f"truncated: {name} ends at byte {8 + length + end} of {len(data)}"
            )
        kind, count = _DTYPES[dtype], math.prod(shape)
        arrays[name] = np.frombuffer(data, kind, count, 8 + length + begin).reshape(shape)
        expected = end
    if 8 + length + expected != len(data):
        raise TritbenchError(
            f"{len(data) - 8 - length - expected} bytes after the last array, expected none"
        )
    return arrays, metadata


def parse_json(text: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object, each key once, every number finite.

    Raises:
        TritbenchError: naming `what` it is that is something else.
    """
    try:
        content = json.loads(
            text.decode() if isinstance(text, bytes) else text,
            object_pairs_hook=_object,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except RecursionError:
        raise TritbenchError(f"{what} is JSON that is nested too deeply") from None
    except ValueError as error:
        raise TritbenchError(f"{what} is not JSON: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise TritbenchError(f"{what} is a JSON {type(content).__name__}, expected an object")
    return content


def _span(name: str, entry: Any) -> tuple[int, int, str, tuple[int, ...]]:
    """Where an array lies: begin, end, dtype and shape, which agree."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise TritbenchError(f"{name}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise TritbenchError(f"{name}: dtype {dtype!r}, expected one of {', '.join(_DTYPES)}")
    if not _counts(shape) or not 1 <= len(shape) <= MOST_DIMENSIONS or 0 in shape:
        raise TritbenchError(
            f"{name}: shape {shape!r}, expected 1 to {MOST_DIMENSIONS} positive integers"
        )
    if not _counts(offsets) or len(offsets) != 2:
        raise TritbenchError(f"{name}: data_offsets {offsets!r}, expected two integers")
    begin, end = offsets
    size = math.prod(shape) * _DTYPES[dtype].itemsize
    if end - begin != size:
        raise TritbenchError(f"{name}: {end - begin} bytes, expected {size} for {dtype} {shape}")
    return begin, end, dtype, tuple(shape)


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**48 for v in values)


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {key!r} stands twice")
        content[key] = value
    return content


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")
