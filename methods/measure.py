"""One measurement of the comparison of methods; methods/dvc.yaml says which there are.

python -m methods.measure ptq MODEL METHOD | qat MODEL METHOD | threshold_curve MODEL: on seeds
that select; python -m methods.measure confirm MODEL | control MODEL: on fresh ones.
"""

import csv
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from methods.baseline import SEEDS, checkpoint_path, load, load_anywhere
from tritbench import models, train
from tritbench.data import Dataset, Images
from tritbench.devices import use_device
from tritbench.errors import TritbenchError, reported
from tritbench.files import write_atomic
from tritbench.graph import run
from tritbench.params import Params
from tritbench.pipeline.ptq import quantize_ptq
from tritbench.pipeline.qat import train_qat
from tritbench.quantize import TernaryWeight
from tritbench.training_state import state_file

THRESHOLDS = [round(0.1 * step, 1) for step in range(2, 11)]
CURVES = ("threshold", "optimal", "gptq")  # methods that have one
BATCH = 1000

Row = dict[str, Any]


@dataclass(frozen=True)
class Start:
    """The FP32 network of a seed, the data set as that seed splits it, and the parameters."""

    name: str
    phase: str
    params: Params
    dataset: Dataset
    checkpoint: models.Checkpoint


def starts(params: Params, name: str, phase: str) -> Iterator[Start]:
    """Every seed of a phase."""
    for seed in SEEDS[phase]:
        own = params.model_copy(update={"seed": seed})
        checkpoint = models.load_checkpoint(checkpoint_path(name, phase, seed))
        yield Start(name, phase, own, load(own), checkpoint)


def ptq(params: Params, name: str, method: str) -> str:
    """Quantize every seed's network by one method."""
    rows = [by_ptq(start, method) for start in starts(params, name, "selection")]
    return write(f"ptq/{name}-{method}", rows)


def qat(params: Params, name: str, method: str) -> str:
    """Train every seed's network with ternary weights by one method."""
    rows = [by_qat(start, method) for start in starts(params, name, "selection")]
    return write(f"qat/{name}-{method}", rows)


def confirm(params: Params, name: str) -> str:
    """The default methods of PTQ and QAT, which were chosen on other seeds."""
    rows = []
    for start in starts(params, name, "confirmation"):
        rows += [by_ptq(start, params.ptq.method), by_qat(start, params.qat.method)]
    return write(f"confirm/{name}", rows)


def control(params: Params, name: str) -> str:
    """FP32 trained on by QAT's recipe: what further epochs and distillation give by themselves."""
    device = use_device(params.train.device, params.train.threads)
    rows = []
    for start in starts(params, name, "confirmation"):
        network, teacher = module(start), module(start)
        began = time.perf_counter()
        train.fit(
            network,
            start.dataset.train,
            start.dataset.validation,
            start.checkpoint.input,
            train.qat_recipe(start.params.of(name), device),
            teacher=teacher,
            label=(label := f"{name} control {start.params.seed}"),
            keep=state_file(label),
        )
        rows.append(row(start, "control", "", network, None, time.perf_counter() - began))
    return write(f"control/{name}", rows)


def threshold_curve(params: Params, name: str) -> str:
    """Quantize the first seed's network at many thresholds."""
    start = next(starts(params, name, "selection"))
    rows = []
    for method in CURVES:
        for threshold in THRESHOLDS:
            settings = {"threshold": threshold, "reference": "absmean"}
            at = params.quantize.model_copy(update=settings)
            changed = start.params.model_copy(update={"quantize": at})
            rows.append({"threshold": threshold} | by_ptq(replace(start, params=changed), method))
    return write(f"threshold_curve/{name}", rows)


def by_ptq(start: Start, method: str) -> Row:
    """The row of a network quantized after training."""
    params = with_method(start.params, "ptq", method)
    checkpoint = start.checkpoint
    began = time.perf_counter()
    quantized = quantize_ptq(params, start.name, start.dataset, checkpoint.graph, checkpoint.input)
    seconds = time.perf_counter() - began
    return row(
        start, "ptq", method, partial(run, quantized.graph), zeros(quantized.ternary), seconds
    )


def by_qat(start: Start, method: str) -> Row:
    """The row of a network trained with ternary weights."""
    params = with_method(start.params, "qat", method)
    label = f"{start.name} {method} {params.seed}"
    began = time.perf_counter()
    quantized, _ = train_qat(params, start.name, start.dataset, start.checkpoint, label)
    seconds = time.perf_counter() - began
    return row(
        start, "qat", method, partial(run, quantized.graph), zeros(quantized.ternary), seconds
    )


def with_method(params: Params, section: str, method: str) -> Params:
    """With another method of `ptq` or `qat`."""
    changed = getattr(params, section).model_copy(update={"method": method})
    return params.model_copy(update={section: changed})


def module(start: Start) -> nn.Module:
    """The FP32 network as a module."""
    return start.checkpoint.module(start.name, start.params.of(start.name).model[start.name])


def zeros(ternary: Mapping[str, TernaryWeight]) -> float:
    """The share of 0 trits."""
    trits = torch.cat([weight.trits.flatten() for weight in ternary.values()])
    return float((trits == 0).double().mean())


def row(
    start: Start,
    mode: str,
    method: str,
    network: Callable[[Tensor], Tensor],
    zeros: float | None,
    seconds: float,
) -> Row:
    """What `tritbench.report.seeds.Row` has; `seconds` are those of making the network."""
    checkpoint, dataset = start.checkpoint, start.dataset
    fp32 = partial(run, checkpoint.graph)
    return {
        "model": start.name,
        "mode": mode,
        "method": method,
        "phase": start.phase,
        "seed": start.params.seed,
        "accuracy": accuracy(network, checkpoint.input, dataset.validation),
        "fp32_accuracy": accuracy(fp32, checkpoint.input, dataset.validation),
        "test_accuracy": accuracy(network, checkpoint.input, dataset.test),
        "fp32_test_accuracy": accuracy(fp32, checkpoint.input, dataset.test),
        "zeros": "" if zeros is None else zeros,
        "seconds": seconds,
        "fp32_seconds": checkpoint.provenance["seconds"],
        "dataset": dataset.name,
    }


@torch.inference_mode()
def accuracy(model: Callable[[Tensor], Tensor], spec: models.InputSpec, images: Images) -> float:
    """Share of images whose class has the largest logit."""
    logits: Tensor = torch.cat([model(spec.normalize(b)) for b in images.pixels.split(BATCH)])
    return float((logits.argmax(1) == images.labels).double().mean())


def write(name: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows as CSV and say where."""
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path = Path("methods/results") / f"{name}.csv"
    write_atomic(path, text.getvalue())
    means = [sum(float(r[key]) for r in rows) / len(rows) for key in ("accuracy", "seconds")]
    return f"{path}: {len(rows)} rows, validation accuracy {means[0]:.2%}, {means[1]:.1f} s each"


MEASUREMENTS: dict[str, Callable[..., str]] = {
    "ptq": ptq,
    "qat": qat,
    "threshold_curve": threshold_curve,
    "confirm": confirm,
    "control": control,
}


def main() -> None:
    """Run the measurement that the command line names."""
    kind, *arguments = sys.argv[1:]
    if kind not in MEASUREMENTS:
        raise TritbenchError(f"{kind!r}: expected one of {', '.join(MEASUREMENTS)}")
    params = load_anywhere()
    use_device("cpu", params.train.threads)
    print(f"{kind}: {MEASUREMENTS[kind](params, *arguments)}")


if __name__ == "__main__":
    with reported("methods"):
        main()
