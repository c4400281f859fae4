"""What the page shows beside the tables: model files, test images that change sides, digests."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.data.description import TEST_IMAGES, read_description
from tritbench.errors import TritbenchError
from tritbench.graph.passes import fold_batch_norm
from tritbench.models import load_checkpoint
from tritbench.packing import Network, load_trit
from tritbench.packing.entropy import entropy
from tritbench.packing.weights import IntegerArray, TernaryArray
from tritbench.report.rows import missing
from tritbench.report.runs import Results
from tritbench.report.seeds import Summary, read_summaries
from tritbench.report.sweeps import SweepResult, read_sweep_csv

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


SHOWN = 8


@dataclass(frozen=True)
class Flip:
    """One image; classes by number, probabilities (softmax) of the class that each names."""

    index: int
    actual: int
    before: int
    before_probability: float
    after: int
    after_probability: float


@dataclass(frozen=True)
class Flips:
    """Of one model and ternary mode: images lost (FP32 right, ternary wrong) and won."""

    model: str
    mode: str
    lost: int
    won: int
    worst: tuple[Flip, ...]


def read_flips(path: Path, pairs: Sequence[tuple[str, str]]) -> list[Flips]:
    """Compare the logits in predictions.npz: `labels` int [n], `MODEL.MODE` float [n, classes].

    Args:
        path: of predictions.npz.
        pairs: of model and ternary mode.

    Raises:
        TritbenchError: where the file is missing, damaged or lacks one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = {"labels"} | {f"{model}.{mode}" for model, mode in pairs}
            wanted |= {f"{model}.fp32" for model, _ in pairs}
            arrays = {name: archive[name] for name in sorted(wanted)}
    except FileNotFoundError:
        raise missing(path) from None
    except (OSError, ValueError, KeyError) as error:
        raise TritbenchError(f"{path}: not the predictions of this run: {error}") from None
    return [_flips(arrays, model, mode) for model, mode in pairs]


def _flips(arrays: Mapping[str, NDArray[np.float32]], model: str, mode: str) -> Flips:
    labels = arrays["labels"].astype(np.int64)
    before, after = (_softmax(arrays[f"{model}.{key}"]) for key in ("fp32", mode))
    images = np.arange(len(labels))
    was_right, is_right = (p.argmax(1) == labels for p in (before, after))
    lost = np.flatnonzero(was_right & ~is_right)
    # Worst: the right class lost most of its probability.
    fall = (before - after)[images, labels]
    worst = lost[np.argsort(-fall[lost], kind="stable")][:SHOWN]
    return Flips(
        model,
        mode,
        len(lost),
        int((~was_right & is_right).sum()),
        tuple(
            Flip(
                int(i),
                int(labels[i]),
                int(before[i].argmax()),
                float(before[i].max()),
                int(after[i].argmax()),
                float(after[i].max()),
            )
            for i in worst
        ),
    )


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exponents = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return np.asarray(exponents / exponents.sum(1, keepdims=True))


@dataclass(frozen=True)
class Evidence:
    """What the page shows beside the tables.

    Attributes:
        networks: what the model files hold.
        flips: which test images changed sides.
        images: the test images, uint8 [n, channels, height, width].
        classes: their names.
        dataset: as params.yaml names it.
        hashes: file and digest.
        sweeps: on this data set, by name.
        seeds: what methods give over several seeds, on this data set.
    """

    networks: Networks
    flips: Sequence[Flips]
    images: NDArray[np.uint8]
    classes: Sequence[str]
    dataset: str
    hashes: list[tuple[str, str]]
    sweeps: Mapping[str, SweepResult]
    seeds: Sequence[Summary]


def read_evidence(
    results: Results, models: Path, data: Path, benchmarks: Path, sweeps: Path, dataset: str
) -> Evidence:
    """Read the artifacts, the test images and the predictions that `results` are of.

    Args:
        results: as `read_results` returns them.
        models: folder of the artifacts.
        data: folder of the data set.
        benchmarks: folder of `predictions.npz`, and of `methods_raw.csv` where it is there.
        sweeps: folder of what `tritbench sweep` wrote.
        dataset: as params.yaml names it.

    Raises:
        TritbenchError: naming a file that is missing or damaged.
    """
    pairs = list(dict.fromkeys((run.model, run.mode) for run in results.runs))
    ternary = [pair for pair in pairs if pair[1] != "fp32"]
    about = read_description(data)
    files = [
        models / model / f"{mode}.{'safetensors' if mode == 'fp32' else 'trit'}"
        for model, mode in pairs
    ]
    hashes = [(f"{path}", f"MD5 {_md5(path)}") for path in files]
    hashes += [(f"{data / name}", f"SHA-256 {digest}") for name, digest in about.sha256.items()]
    swept = {path.stem: read_sweep_csv(path) for path in sorted(sweeps.glob("*.csv"))}
    return Evidence(
        examine(models, results.models, list(dict.fromkeys(mode for _, mode in ternary))),
        read_flips(benchmarks / "predictions.npz", ternary),
        np.load(data / TEST_IMAGES, "r", allow_pickle=False),
        about.classes,
        dataset,
        hashes,
        {
            name: sweep
            for name, sweep in swept.items()
            if sweep.rows and sweep.rows[0]["dataset"] == results.runs[0].dataset
        },
        read_summaries(benchmarks / "methods_raw.csv", results.models, results.runs[0].dataset),
    )


def _md5(path: Path) -> str:
    """As dvc.lock has it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
