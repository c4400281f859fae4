"""GGUF, the format of ggml and llama.cpp: ternary weights as TQ2_0 or TQ1_0, all else as F32.

A TQ block is 256 weights of one row with one float16 scale. So each group of weights that share a
scale is padded with 0 to whole blocks. What float16 takes from a scale stands in a tensor of its
own, `correction`, so that predictions need not change.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.files import write_atomic
from tritbench.optional import require
from tritbench.packing.dequantize import scales
from tritbench.packing.network import Network, PackedLayer

BLOCK = 256
TYPES = ("TQ2_0", "TQ1_0")


def export_gguf(network: Network, path: Path, kind: str = "TQ2_0") -> None:
    """Write `network` as GGUF, its ternary weights as `kind`, one of TYPES.

    Raises:
        TritbenchError: without the package gguf, or for another `kind`.
    """
    if kind not in TYPES:
        raise TritbenchError(f"GGUF type {kind!r}, expected {' or '.join(TYPES)}")
    gguf = require("gguf")
    with tempfile.TemporaryDirectory(prefix="tritbench.") as folder:
        temporary = Path(folder) / "it.gguf"
        writer = gguf.GGUFWriter(temporary, "tritbench")
        _add_metadata(writer, network)
        for index, layer in enumerate(network.layers):
            _add_layer(gguf, writer, f"layers.{index}", layer, gguf.GGMLQuantizationType[kind])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        write_atomic(path, temporary.read_bytes())


def blocks(layer: PackedLayer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A layer's weights as TQ holds them, and what corrects them.

    Returns:
        weights float32 [out, groups × padded], each group padded with 0 to whole blocks, with
        scales that float16 holds; the correction float32 [out, groups], by which weights of a
        group are to be multiplied, 1 within 2^-11 for scales of common size.
    """
    if "negative_scale" in layer.arrays:
        raise TritbenchError(
            "the network has other scales for trits of -1 (qat.method: ttq); GGUF's ternary types "
            "have one scale for both"
        )
    trits, size, exact = layer.arrays["trits"], layer.about["group_size"], scales(layer)
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
    spec = network.input
    writer.add_string("tritbench.layers", json.dumps([layer.about for layer in network.layers]))
    writer.add_array("tritbench.input.shape", list(spec.shape))
    writer.add_array("tritbench.input.mean", list(spec.mean))
    writer.add_array("tritbench.input.std", list(spec.std))
    writer.add_array("tritbench.classes", network.classes)
    writer.add_uint32("tritbench.group_padding", BLOCK)
    writer.add_string("tritbench.provenance", json.dumps(network.provenance))


def _add_layer(gguf: Any, writer: Any, name: str, layer: PackedLayer, kind: Any) -> None:
    if "trits" in layer.arrays:
        rows, correction = blocks(layer)
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(rows, kind), raw_dtype=kind)
        writer.add_tensor(f"{name}.correction", correction)
    elif layer.arrays:
        writer.add_tensor(f"{name}.scale", layer.arrays["scale"])
    if layer.arrays:
        writer.add_tensor(f"{name}.bias", layer.arrays["bias"])
