"""GGUF, the format of ggml and llama.cpp: ternary weights as TQ2_0 or TQ1_0, floats as F32.

It holds the tensors by name and the graph as JSON, which no other program runs.

A TQ block is 256 weights of one row with one float16 scale. So each group of weights that share a
scale is padded with 0 to whole blocks. What float16 takes from a scale stands in a tensor of its
own, `NAME.correction`, so that predictions need not change.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.files import write_atomic
from tritbench.graph.graph import to_json
from tritbench.optional import require
from tritbench.packing.graph_file import describe_weights
from tritbench.packing.network import Network
from tritbench.packing.weights import IntegerArray, TernaryArray

BLOCK = 256
TYPES = ("TQ2_0", "TQ1_0")
LONGEST_NAME, MOST_DIMENSIONS = 63, 4  # bytes, and dimensions, as in ggml


def export_gguf(network: Network, path: Path, kind: str = "TQ2_0") -> None:
    """Write `network` as GGUF, its ternary weights as `kind`, one of TYPES.

    Raises:
        TritbenchError: without the package gguf, or for another `kind`.
    """
    if kind not in TYPES:
        raise TritbenchError(f"GGUF type {kind!r}, expected {' or '.join(TYPES)}")
    gguf = require("gguf")
    names: dict[str, str] = {}  # those that are too long for ggml
    shapes: dict[str, list[int]] = {}  # of arrays with more dimensions than ggml has

    def add(name: str, array: NDArray[Any], raw_dtype: Any = None) -> None:
        if array.ndim > MOST_DIMENSIONS:
            shapes[name] = list(array.shape)
            array = array.reshape(-1, *array.shape[1 - MOST_DIMENSIONS :])
        if len(name.encode()) > LONGEST_NAME:
            name = names.setdefault(name, f"tensor.{len(names)}")
        writer.add_tensor(name, array, raw_dtype=raw_dtype)

    with tempfile.TemporaryDirectory(prefix="tritbench.") as folder:
        temporary = Path(folder) / "it.gguf"
        writer = gguf.GGUFWriter(temporary, "tritbench")
        _add_metadata(writer, network)
        for name, array in network.packed.graph.parameters.items():
            match network.packed.weights.get(name):
                case TernaryArray() as weight:
                    rows, correction = blocks(name, weight)
                    raw = gguf.GGMLQuantizationType[kind]
                    add(name, gguf.quants.quantize(rows, raw), raw)
                    add(f"{name}.correction", correction)
                case IntegerArray() as weight:
                    add(name, weight.values)
                    add(f"{name}.scale", weight.scale)
                case _:
                    add(name, np.ascontiguousarray(array))
        writer.add_string("tritbench.names", json.dumps({v: k for k, v in names.items()}))
        writer.add_string("tritbench.shapes", json.dumps(shapes))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        write_atomic(path, temporary.read_bytes())


def blocks(name: str, weight: TernaryArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A weight as TQ holds it, and what corrects it.

    Returns:
        weights float32 [out, groups × padded], each group padded with 0 to whole blocks, with
        scales that float16 holds; the correction float32 [out, groups], by which weights of a
        group are to be multiplied, 1 within 2^-11 for scales of common size.

    Raises:
        TritbenchError: where trits of -1 have scales of their own.
    """
    if weight.negative_scale is not None:
        raise TritbenchError(
            f"{name} has other scales for trits of -1 (qat.method: ttq); GGUF's ternary types "
            "have one scale for both"
        )
    trits, size, exact = weight.trits, weight.group_size, weight.scales()
    out, groups = exact.shape
    padded = -(-size // BLOCK) * BLOCK
    rows = np.zeros((out, groups * size), np.float32)
    rows[:, : trits.shape[1]] = trits
    grouped = np.zeros((out, groups, padded), np.float32)
    grouped[:, :, :size] = rows.reshape(out, groups, size)
    with np.errstate(over="ignore"):
        half = exact.astype(np.float16).astype(np.float32)
    # Beyond float16's range the block holds the trits and the correction is the scale.
    half = np.where((half == 0) | ~np.isfinite(half), np.float32(1), half)
    return (grouped * half[:, :, None]).reshape(out, -1), exact / half


def _add_metadata(writer: Any, network: Network) -> None:
    writer.add_string("tritbench.graph", json.dumps(to_json(network.packed.graph)))
    writer.add_string("tritbench.weights", json.dumps(describe_weights(network.packed)))
    if network.normalization is not None:
        for key, values in vars(network.normalization).items():
            writer.add_array(f"tritbench.normalization.{key}", list(values))
    writer.add_array("tritbench.classes", network.classes)
    writer.add_uint32("tritbench.group_padding", BLOCK)
    writer.add_string("tritbench.provenance", json.dumps(network.provenance))
