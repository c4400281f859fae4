"""`tritbench try`: the whole question for one network, without a repository."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tritbench import data, models, train
from tritbench.data import Dataset
from tritbench.devices import use_device
from tritbench.files import read_yaml, write_atomic
from tritbench.graph import OPS, Graph, run
from tritbench.inputs import dataset_hashes
from tritbench.measure.benchmark import Result
from tritbench.measure.networks import IMAGENET
from tritbench.measure.rows import rows_csv
from tritbench.models import Checkpoint, InputSpec, save_checkpoint
from tritbench.params import Params, parse_params
from tritbench.pipeline.evaluate import measure, shared_columns
from tritbench.pipeline.fp32 import train_fp32
from tritbench.pipeline.ptq import quantize_ptq
from tritbench.pipeline.qat import train_qat
from tritbench.pipeline.ternary import write_ternary
from tritbench.provenance import provenance
from tritbench.quantize import Quantized
from tritbench.shapes import Shape

# Beside this package where it is installed, in the repository's root where it is not.
DEFAULTS = ("params.yaml", "../params.yaml")
# What weights of others are usually trained with, beside the mean and deviation of their images.
USUAL = {
    "ImageNet's": IMAGENET,
    "to -1..1": ((0.5,), (0.5,)),
    "to 0..1": ((0.0,), (1.0,)),
}
_TRIED_ON = 512  # validation images on which a normalization is chosen
_WORK = 2e11  # multiplications that finding the cost of each layer may take


@dataclass(frozen=True)
class Attempt:
    """What is asked for.

    Attributes:
        network: `package.module:name` of what makes it, or the name of a built-in one.
        data: a folder with images, or the name of a data set.
        out: the folder for all that is written.
        weights: of the network in FP32; None trains it first.
        size: height and width that images become; None keeps theirs.
        mean: of each channel, with which the weights were trained; None finds out.
        std: likewise.
        qat: epochs of training with ternary weights; 0 does without.
        latency: whether to time the networks, and what else runs them.
    """

    network: str
    data: str
    out: Path
    weights: Path | None = None
    size: int | tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    qat: int = 0
    latency: bool = True


@dataclass(frozen=True)
class LayerCost:
    """One ternary weight.

    Attributes:
        name: the parameter's.
        weights: how many.
        products: multiplications for one image.
        error: of the logits where it alone is ternary, as a share of their deviation.
    """

    name: str
    weights: int
    products: int
    error: float


@dataclass(frozen=True)
class Found:
    """What came out of it: `result` as `measure_model` gives it, `layers` the costliest first."""

    dataset: Dataset
    checkpoint: Checkpoint
    normalization: str
    result: Result
    layers: Sequence[LayerCost]


def attempt(asked: Attempt) -> Found:
    """Bring FP32, PTQ and, where asked for, QAT of a network side by side on held-out images.

    Everything is written to `asked.out`, each file whole or not at all; decoded images are kept
    there for the next call.

    Raises:
        TritbenchError: naming what cannot be used of network, weights and images.
    """
    params = parameters(asked)
    (name,) = params.models
    use_device(params.train.device, params.train.threads)
    dataset = data.load(_images(params, asked.out), params.data.validation, params.seed)
    checkpoint, normalization = _fp32(asked, params, name, dataset)
    paths = {"fp32": asked.out / "fp32.safetensors", "ptq": asked.out / "ptq.trit"}
    save_checkpoint(paths["fp32"], checkpoint)
    quantized = quantize_ptq(params, name, dataset, checkpoint.graph, checkpoint.input)
    write_ternary(paths["ptq"], quantized, checkpoint, dataset, params, name)
    if asked.qat:
        paths["qat"] = asked.out / "qat.trit"
        trained, _ = train_qat(params, name, dataset, checkpoint, f"{name} QAT")
        write_ternary(paths["qat"], trained, checkpoint, dataset, params, name)
    use_device("cpu", params.evaluate.threads)
    about = shared_columns(dataset, params.seed, None)
    result = measure(params, name, paths, dataset, about)
    write_atomic(asked.out / "runs.csv", rows_csv(result.rows))
    write_atomic(asked.out / "peers.csv", rows_csv(result.peers))
    layers = layer_costs(checkpoint.graph, quantized, dataset, checkpoint.input)
    return Found(dataset, checkpoint, normalization, result, layers)


def parameters(asked: Attempt) -> Params:
    """Those of params.yaml, for this one network."""
    here = Path(__file__).parent
    content = read_yaml(next(here / file for file in DEFAULTS if (here / file).exists()))
    module, _, name = asked.network.rpartition(":")
    settings = {"factory": asked.network} if module else content["model"].get(name, {})
    if asked.weights is not None:
        settings = settings | {"weights": str(asked.weights)}
    if asked.mean is not None and asked.std is not None:
        given = {"mean": list(asked.mean), "std": list(asked.std)}
        settings = settings | {"normalize": given}
    content |= {"models": [name], "model": {name: settings}}
    folder = Path(asked.data).absolute()
    dataset = f"path:{folder}" if os.path.isdir(asked.data) else asked.data
    size = list(asked.size) if isinstance(asked.size, tuple) else asked.size
    content["data"] |= {"dataset": dataset, "mirrors": [], "size": size}
    threads = min(os.cpu_count() or 1, content["train"]["threads"])
    content["train"] |= {"threads": threads, "launcher": None}
    modes = ["ptq", "qat"] if asked.qat else ["ptq"]
    content["evaluate"] |= {"modes": modes, "latency": asked.latency}
    if asked.qat:
        frozen = min(asked.qat, content["qat"]["frozen_epochs"])
        content["qat"] |= {"epochs": asked.qat, "frozen_epochs": frozen}
    return parse_params(content, "tritbench try")


def _images(params: Params, out: Path) -> Path:
    """The folder of decoded images, made anew where the source or the size is another one."""
    key = {"data": params.data.model_dump(mode="json"), "files": dataset_hashes(params.data)}
    note, text = out / "data" / "inputs.json", json.dumps(key)
    folder = out / "data" / params.data.name
    if not (folder.exists() and note.exists() and note.read_text() == text):
        note.unlink(missing_ok=True)
        data.fetch(params.data, params.seed, into=out / "data", program="tritbench")
        write_atomic(note, text)
    return folder


def _fp32(asked: Attempt, params: Params, name: str, dataset: Dataset) -> tuple[Checkpoint, str]:
    """The network in FP32, and how its images are normalized, in words."""
    if asked.weights is None:
        checkpoint, _ = train_fp32(params, name, dataset, f"{name} FP32")
        return checkpoint, "by the training images"
    settings = params.of(name).model[name]
    shape, classes = dataset.image_shape, dataset.classes
    network = models.build(name, settings, shape, len(classes), params.seed)
    models.load_state(network, models.read_state(asked.weights), str(asked.weights))
    spec, words = _normalization(asked, network.eval(), dataset)
    about = provenance(dataset, params.of(name), name, "float32")
    return Checkpoint.of(network, spec, classes, about), words


def _normalization(asked: Attempt, network: nn.Module, dataset: Dataset) -> tuple[InputSpec, str]:
    """As asked for, or the one with the least loss on validation images."""
    shape = dataset.image_shape
    if asked.mean is not None and asked.std is not None:
        return InputSpec(shape, asked.mean, asked.std), "as given"
    specs = {"by the training images": InputSpec(shape, dataset.mean, dataset.std)}
    for words, (mean, std) in USUAL.items():
        if shape[0] in (1, 3) and shape[0] % len(mean) == 0:
            times = shape[0] // len(mean)
            specs[words] = InputSpec(shape, mean * times, std * times)
    subset = dataset.validation.select(torch.arange(min(len(dataset.validation), _TRIED_ON)))
    loss = {w: train.score(network, subset, subset, spec).val_loss for w, spec in specs.items()}
    best = min(loss, key=loss.__getitem__)
    return specs[best], f"{best}, the best of {len(specs)} usual ways on validation images"


@torch.no_grad()
def layer_costs(
    graph: Graph, quantized: Quantized, dataset: Dataset, spec: InputSpec
) -> list[LayerCost]:
    """What each weight costs that alone is ternary, most first.

    Args:
        graph: float network.
        quantized: the same with ternary weights.
        dataset: whose validation images are looked at.
        spec: how they are normalized.
    """
    products = _products(graph)
    work = max(1, graph.products()) * len(quantized.weights)
    images = spec.normalize(dataset.validation.pixels[: max(16, min(512, int(_WORK / work)))])
    expected = run(graph, images)
    spread = float((expected - expected.mean(0)).norm())
    found = []
    for name, weight in quantized.weights.items():
        logits = run(graph, images, parameters={name: weight.dequantize()})
        error = float((logits - expected).norm()) / max(spread, 1e-30)
        found.append(LayerCost(name, graph.parameters[name].size, products[name], error))
    return sorted(found, key=lambda layer: -layer.error)


def _products(graph: Graph) -> dict[str, int]:
    """Multiplications for one image with each weight, by its name."""
    shapes: Mapping[Any, Shape] = graph.shapes()
    found = dict.fromkeys(graph.weights(), 0)
    for node in graph.nodes:
        for name in found.keys() & set(node.inputs[1:2]):
            given = [shapes.get(taken) for taken in node.inputs]
            found[str(name)] += OPS[node.op].products(given, node.attributes, node.shape)
    return found
