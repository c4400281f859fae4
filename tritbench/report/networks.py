"""What the model files themselves show: their layers, and the weights that see the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.graph.passes import fold_batch_norm
from tritbench.models import load_checkpoint
from tritbench.packing import Network, load_trit
from tritbench.packing.entropy import entropy
from tritbench.packing.weights import IntegerArray, TernaryArray

UNITS = 10  # whose weights are shown, at most


@dataclass(frozen=True)
class LayerFacts:
    """One layer with weights.

    Attributes:
        name: its place and shape.
        kind: what its weights are: ternary, int8, float16 or float32.
        weights: how many.
        zeros: share of them that is 0.
        bits: stored for each, scales and biases apart.
        entropy: bits a weight that the best code for these shares would take.
        error: norm of the difference to the FP32 weights over theirs, BatchNorm folded in both.
    """

    model: str
    mode: str
    name: str
    kind: str
    weights: int
    zeros: float
    bits: float
    entropy: float
    error: float


@dataclass(frozen=True)
class FirstLayer:
    """Trits of a linear layer that sees the image: int8 [units, height, width] and their names."""

    model: str
    mode: str
    trits: NDArray[np.int8]
    names: tuple[str, ...]
    outputs: int


@dataclass(frozen=True)
class Networks:
    """Of every model and ternary mode."""

    layers: list[LayerFacts]
    first_layers: list[FirstLayer]


def examine(folder: Path, models: Sequence[str], modes: Sequence[str]) -> Networks:
    """Read the files of `models` in `folder` (models/).

    Raises:
        TritbenchError: naming a file that cannot be read.
    """
    layers: list[LayerFacts] = []
    first_layers: list[FirstLayer] = []
    for model in models:
        graph = load_checkpoint(folder / model / "fp32.safetensors").graph
        fp32 = fold_batch_norm(graph).scaled().parameters
        for mode in modes:
            if mode == "fp32":
                continue
            network = load_trit(folder / model / f"{mode}.trit")
            layers += _layers(model, mode, network, fp32)
            first_layers += _first_layer(model, mode, network)
    return Networks(layers, first_layers)


def _layers(
    model: str, mode: str, network: Network, fp32: Mapping[str, NDArray[Any]]
) -> list[LayerFacts]:
    found = []
    for number, (name, node) in enumerate(network.packed.graph.weights().items(), start=1):
        wanted = fp32[name]
        values, kind, stored = _values(network, name)
        difference = network.packed.dequantize(name) - wanted
        out, taken, *kernel = wanted.shape
        size = f" {'×'.join(map(str, kernel))}" if kernel else ""
        found.append(
            LayerFacts(
                model,
                mode,
                f"{number}: {node.op} {taken}→{out}{size}",
                kind,
                values.size,
                float(np.mean(values == 0)),
                8 * stored.nbytes / values.size,
                entropy(values),
                float(np.linalg.norm(difference) / np.linalg.norm(wanted)),
            )
        )
    return found


def _values(network: Network, name: str) -> tuple[NDArray[Any], str, NDArray[Any]]:
    """Of a weight: its trits, integers or floats, what they are, and the array that holds them."""
    match network.packed.weights.get(name):
        case TernaryArray() as weight:
            return weight.trits, "ternary", network.stored[f"{name}.trits"]
        case IntegerArray() as weight:
            return weight.values, "int8", network.stored[f"{name}.int8"]
    stored = network.stored[name]
    return stored, str(stored.dtype), stored


def _first_layer(model: str, mode: str, network: Network) -> list[FirstLayer]:
    """The first layer with weights, where it is linear and sees a grey image as it is."""
    graph = network.packed.graph
    (name, value), *_ = graph.inputs.items()
    if [node.op for node in graph.nodes[:2]] != ["reshape", "linear"]:
        return []
    flat, first = graph.nodes[:2]
    weight = network.packed.weights.get(str(first.inputs[1]))
    grey = len(value.shape) == 4 and value.shape[1] == 1
    seen = grey and (flat.inputs[0], first.inputs[0]) == (name, flat.name)
    if not seen or not isinstance(weight, TernaryArray):
        return []
    outputs, (height, width) = len(weight.trits), value.shape[-2:]
    # Of the last layer, the units are the classes.
    classes = network.classes if first.name == graph.output else None
    names = classes or [f"unit {number}" for number in range(1, outputs + 1)]
    trits = weight.trits.reshape(outputs, height, width)[:UNITS]
    return [FirstLayer(model, mode, trits, tuple(names[:UNITS]), outputs)]
