"""`tritbench inspect`: what a .trit file holds and what it saves, or what a checkpoint holds."""

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from tritbench.commands.inspect_graph import describe_graph, graph_table
from tritbench.errors import printable
from tritbench.packing import Network, holds_graph, load_graph, load_trit
from tritbench.packing.entropy import entropy
from tritbench.packing.t81 import LIMB_BYTES, LIMB_TRITS

_HEADINGS = ("", "layer", "shape", "weights", "bytes", "bits", "entropy", "zeros", "scales")


def run(path: Path, as_json: bool) -> None:
    """Print the facts, as a table or as JSON.

    Raises:
        TritbenchError: for a file that cannot be read.
    """
    if path.suffix == ".safetensors":
        # Imported when asked for: it brings PyTorch, which a .trit file does not need.
        from tritbench.commands.checkpoint import describe_checkpoint
        from tritbench.models import load_checkpoint

        facts = describe_checkpoint(load_checkpoint(path), path.stat().st_size)
    elif holds_graph(path):
        facts = describe_graph(load_graph(path), path.stat().st_size)
        print(json.dumps(facts, indent=2) if as_json else graph_table(facts))
        return
    else:
        facts = describe(load_trit(path), path.stat().st_size)
    print(json.dumps(facts, indent=2) if as_json else table(facts))


def describe(network: Network, file_bytes: int) -> dict[str, Any]:
    """Plain JSON: the network, its layers and its sizes in bytes.

    `bytes` counts packed trits, scales and biases. `float32_bytes` is a float network with one bias
    an output, BatchNorm folded. `t81_bytes` has t81lib's limbs and float32 scales and biases.
    """
    layers = [_layer(network, index) for index in range(len(network.layers))]
    weighted = [layer for layer in layers if "weights" in layer]
    stored = sum(array.nbytes for array in network.stored.values())
    floats = sum(
        array.size for name, array in network.stored.items() if not name.endswith(".trits")
    )
    limbs = sum(
        LIMB_BYTES * -(-layer["columns"] // LIMB_TRITS) * layer["out"] for layer in weighted
    )
    weights = sum(layer["weights"] for layer in weighted)
    float32 = 4 * (weights + sum(layer["out"] for layer in weighted))
    return {
        "codec": network.codec,
        "input": vars(network.input),
        "classes": network.classes,
        "layers": layers,
        "weights": weights,
        "bits_per_weight": 8 * stored / max(weights, 1),
        "bytes": stored,
        "file_bytes": file_bytes,
        "float32_bytes": float32,
        "t81_bytes": limbs + 4 * floats,
        "compression": float32 / max(stored, 1),
        "file_compression": float32 / file_bytes,
        "provenance": network.provenance,
    }


def _layer(network: Network, index: int) -> dict[str, Any]:
    layer = network.layers[index]
    facts: dict[str, Any] = dict(layer.about)
    if layer.arrays:
        scale, bias = (network.stored[f"layers.{index}.{key}"] for key in ("scale", "bias"))
        facts["scales"] = [float(scale.min()), float(scale.max())]
        facts["dtypes"] = {"scale": str(scale.dtype), "bias": str(bias.dtype)}
    if "trits" in layer.arrays:
        trits = layer.arrays["trits"]
        packed = network.stored[f"layers.{index}.trits"]
        facts |= {
            "columns": trits.shape[1],
            "weights": trits.size,
            "bytes": packed.nbytes,
            "bits_per_weight": 8 * packed.nbytes / trits.size,
            "entropy": entropy(trits),
            "zeros": float(np.mean(trits == 0)),
        }
    return facts


def table(facts: dict[str, Any]) -> str:
    """The facts for a reader, provenance last."""
    rows = [_HEADINGS, *(_row(index, layer) for index, layer in enumerate(facts["layers"]))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (1, 2, 8) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    shape = "×".join(str(size) for size in facts["input"]["shape"])
    mean, std = (
        ", ".join(f"{value:.4f}" for value in facts["input"][key]) for key in ("mean", "std")
    )
    lines += [
        "",
        f"input       {shape}, mean {mean}, std {std}",
        f"classes     {printable(', '.join(facts['classes']))}",
        *_sizes(facts),
        *_provenance(facts["provenance"]),
    ]
    return "\n".join(lines)


def _sizes(facts: dict[str, Any]) -> list[str]:
    stored, float32, file = (facts[key] for key in ("bytes", "float32_bytes", "file_bytes"))
    if "t81_bytes" not in facts:
        return [
            f"codec       {facts['codec']}",
            f"bytes       {stored:,}; {float32:,} once each BatchNorm is folded",
            f"file        {file:,} bytes",
        ]
    limbs = facts["t81_bytes"]
    return [
        f"codec       {facts['codec']}, {facts['bits_per_weight']:.3f} bits a weight with scales "
        "and biases",
        f"bytes       {stored:,}: {float32 / stored:.1f}× smaller than float32 ({float32:,}), "
        f"{limbs / stored:.2f}× than t81lib's limbs ({limbs:,})",
        f"file        {file:,} bytes: {facts['file_compression']:.1f}× smaller than float32",
    ]


def _row(index: int, layer: dict[str, Any]) -> tuple[str, ...]:
    shape = f"{layer['in']}→{layer['out']}" if "in" in layer else ""
    if "features" in layer:
        shape = str(layer["features"])
    if "kernel" in layer:
        shape = f"{shape} {'×'.join(map(str, layer['kernel']))}".strip()
    scales = ""
    if "scales" in layer:
        low, high = layer["scales"]
        scales = f"{low:.3g} to {high:.3g} ({layer['dtypes']['scale']})"
    cells = (str(index), layer["type"], shape)
    if "weights" not in layer:
        return (*cells, "", "", "", "", "", scales)
    return (
        *cells,
        f"{layer['weights']:,}",
        f"{layer['bytes']:,}",
        f"{layer['bits_per_weight']:.3f}",
        f"{layer['entropy']:.3f}" if "entropy" in layer else "",
        f"{layer['zeros']:.1%}",
        scales,
    )


def _provenance(content: dict[str, Any]) -> list[str]:
    lines = [
        line
        for key, value in content.items()
        for line in textwrap.wrap(printable(f"{key} {json.dumps(value, ensure_ascii=False)}"), 84)
    ]
    return [f"{'provenance' if n == 0 else '':12}{line}" for n, line in enumerate(lines)]
