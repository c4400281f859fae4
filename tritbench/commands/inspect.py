"""`tritbench inspect`: what a .trit file or a checkpoint holds, and what it saves."""

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import printable
from tritbench.graph.graph import Graph
from tritbench.graph.ops import OPS
from tritbench.graph.shapes import Shape
from tritbench.packing import Network, load_trit
from tritbench.packing.entropy import entropy
from tritbench.packing.t81 import LIMB_BYTES, LIMB_TRITS
from tritbench.packing.weights import PackedArray, TernaryArray
from tritbench.report.text import aligned, quoted

WORDS = ("operation", "result", "weight", "kind")
FIGURES = ("weights", "bytes", "bits", "entropy", "zeros", "products")


def run(path: Path, form: str = "table") -> None:
    """Print the facts; `form` is table, json or mermaid (a flowchart of the graph).

    Raises:
        TritbenchError: for a file that cannot be read.
    """
    if path.suffix == ".safetensors":
        # Imported when asked for: it brings PyTorch, which a .trit file does not need.
        from tritbench.commands.checkpoint import describe_checkpoint
        from tritbench.models import load_checkpoint

        facts = describe_checkpoint(load_checkpoint(path), path.stat().st_size)
    else:
        facts = describe(load_trit(path), path.stat().st_size)
    match form:
        case "json":
            print(json.dumps(facts, indent=2))
        case "mermaid":
            print(picture(facts))
        case _:
            print(table(facts))


def describe(network: Network, file_bytes: int) -> dict[str, Any]:
    """Plain JSON: the operations in order, and sizes in bytes.

    `bytes` counts packed weights, scales and all other parameters. `float32_bytes` is the same
    graph in float32. `t81_bytes` has t81lib's limbs for trits and float32 for the floats.
    `products` are the multiplications for one image.
    """
    graph, packed = network.packed.graph, network.packed.weights
    operations = describe_nodes(graph, packed, network.stored)
    stored = sum(array.nbytes for array in network.stored.values())
    weights = sum(facts.get("weights", 0) for facts in operations)
    float32 = 4 * sum(array.size for array in graph.parameters.values())
    limbs = sum(
        LIMB_BYTES * -(-weight.trits.shape[1] // LIMB_TRITS) * len(weight.trits)
        for weight in packed.values()
        if isinstance(weight, TernaryArray)
    )
    others = sum(
        array.nbytes if array.dtype.kind == "i" else 4 * array.size
        for name, array in network.stored.items()
        if not name.endswith(".trits")
    )
    return {
        "codec": network.codec,
        "inputs": {name: sizes(value.shape) for name, value in graph.inputs.items()},
        "normalization": network.normalization and vars(network.normalization),
        "classes": network.classes,
        "operations": operations,
        "weights": weights,
        "products": graph.products(),
        "bits_per_weight": 8 * stored / max(weights, 1),
        "bytes": stored,
        "file_bytes": file_bytes,
        "float32_bytes": float32,
        "t81_bytes": limbs + others,
        "compression": float32 / max(stored, 1),
        "file_compression": float32 / file_bytes,
        "provenance": network.provenance,
    }


def describe_nodes(
    graph: Graph, packed: Mapping[str, PackedArray], stored: Mapping[str, NDArray[Any]]
) -> list[dict[str, Any]]:
    """Each operation with its inputs, result, products and weight; `stored` are a file's arrays.

    An input is the name of one of the graph's, or the place of another operation.
    """
    shapes = graph.shapes()
    values: dict[str | None, str | int] = {name: name for name in graph.inputs}
    values |= {node.name: place for place, node in enumerate(graph.nodes)}
    weights = {name for node in graph.weights().values() for name in node.inputs[1:2]}
    found = []
    for node in graph.nodes:
        taken = [values[name] for name in node.inputs if name in values]
        facts: dict[str, Any] = {"operation": node.op, "inputs": taken, "result": sizes(node.shape)}
        given: list[Any] = [None if name is None else shapes[name] for name in node.inputs]
        if products := OPS[node.op].products(given, node.attributes, node.shape):
            facts["products"] = products
        for name in weights.intersection(node.inputs) | packed.keys() & set(node.inputs):
            facts |= _weight(str(name), graph.parameters[str(name)], packed.get(str(name)), stored)
        found.append(facts)
    return found


def _weight(
    name: str,
    array: NDArray[Any],
    packed: PackedArray | None,
    stored: Mapping[str, NDArray[Any]],
) -> dict[str, Any]:
    facts: dict[str, Any] = {"weight": name, "shape": list(array.shape), "weights": array.size}
    if packed is None:
        own = stored[name]
        zeros = float(np.mean(own == 0))
        return facts | {"kind": str(own.dtype), "bytes": own.nbytes, "zeros": zeros}
    ternary = isinstance(packed, TernaryArray)
    values = packed.trits if isinstance(packed, TernaryArray) else packed.values
    codes, scale = stored[f"{name}.{'trits' if ternary else 'int8'}"], stored[f"{name}.scale"]
    facts |= {
        "kind": "ternary" if ternary else "int8",
        "bytes": codes.nbytes,
        "bits_per_weight": 8 * codes.nbytes / values.size,
        "zeros": float(np.mean(values == 0)),
        "scales": [float(scale.min()), float(scale.max())],
        "scale_dtype": str(scale.dtype),
    }
    return facts | ({"entropy": entropy(values)} if ternary else {})


def sizes(shape: Shape) -> list[str | int]:
    """Sizes, the batch as n."""
    return ["n" if size == -1 else f"{-size}n" if size < 0 else size for size in shape]


def table(facts: dict[str, Any]) -> str:
    """The facts for a reader, provenance last."""
    rows = [("", *WORDS, *FIGURES), *(_row(*node) for node in enumerate(facts["operations"]))]
    lines = aligned(rows, left=range(1, 1 + len(WORDS)))
    inputs = ", ".join(f"{name} {_times(shape)}" for name, shape in facts["inputs"].items())
    if facts["normalization"]:
        means, stds = (
            " ".join(f"{number:.4f}" for number in dict.fromkeys(facts["normalization"][key]))
            for key in ("mean", "std")
        )
        inputs += f", mean {means}, std {stds}"
    return "\n".join(
        [
            *lines,
            "",
            f"input       {printable(inputs)}",
            f"classes     {printable(', '.join(facts['classes']))}",
            *_sizes(facts),
            *_provenance(facts["provenance"]),
        ]
    )


def picture(facts: dict[str, Any]) -> str:
    """A Mermaid flowchart: inputs, operations, and what flows between them."""
    names = {name: f"input{place}" for place, name in enumerate(facts["inputs"])}
    lines = ["flowchart TD"]
    for name, shape in facts["inputs"].items():
        lines.append(f"    {names[name]}([{quoted(name, _times(shape))}])")
    for place, node in enumerate(facts["operations"]):
        weight = [f"{node['kind']} {_times(node['shape'])}"] if "weight" in node else []
        label = quoted(node["operation"], *weight, _times(node["result"]))
        lines.append(f"    node{place}[{label}]")
        lines += [f"    {names.get(i, f'node{i}')} --> node{place}" for i in node["inputs"]]
    return "\n".join(lines)


def _row(index: int, facts: dict[str, Any]) -> tuple[str, ...]:
    texts = dict(facts)
    texts["result"] = _times(facts["result"])
    texts["weight"] = printable(facts.get("weight", ""))
    texts |= {k: f"{facts[k]:,}" for k in ("weights", "bytes", "products") if k in facts}
    if "weights" in facts:
        texts["bits"] = f"{8 * facts['bytes'] / facts['weights']:.3f}"
        texts["zeros"] = f"{facts['zeros']:.1%}"
    if "entropy" in facts:
        texts["entropy"] = f"{facts['entropy']:.3f}"
    return (str(index), *(texts.get(column, "") for column in (*WORDS, *FIGURES)))


def _sizes(facts: dict[str, Any]) -> list[str]:
    stored, float32, file = (facts[key] for key in ("bytes", "float32_bytes", "file_bytes"))
    products = f"products    {facts['products']:,} for one image"
    if "t81_bytes" not in facts:
        return [
            f"codec       {facts['codec']}",
            products,
            f"bytes       {stored:,}; {float32:,} once each BatchNorm is folded",
            f"file        {file:,} bytes",
        ]
    limbs = facts["t81_bytes"]
    return [
        f"codec       {facts['codec']}, {facts['bits_per_weight']:.3f} bits a weight with scales "
        "and all else",
        products,
        f"bytes       {stored:,}: {float32 / max(stored, 1):.1f}× smaller than float32 "
        f"({float32:,}), {limbs / max(stored, 1):.2f}× than t81lib's limbs ({limbs:,})",
        f"file        {file:,} bytes: {facts['file_compression']:.1f}× smaller than float32",
    ]


def _times(shape: list[Any]) -> str:
    return "×".join(map(str, shape))


def _provenance(content: dict[str, Any]) -> list[str]:
    lines = [
        line
        for key, value in content.items()
        for line in textwrap.wrap(printable(f"{key} {json.dumps(value, ensure_ascii=False)}"), 84)
    ]
    return [f"{'provenance' if n == 0 else '':12}{line}" for n, line in enumerate(lines)]
