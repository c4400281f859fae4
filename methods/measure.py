"""One measurement of the comparison of methods; methods/dvc.yaml says which there are.

python -m methods.measure ptq MODEL METHOD | sweep MODEL | qat MODEL METHOD
"""

import csv
import io
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from methods.baseline import SEEDS, checkpoint_path, load
from tritbench import data, models, train
from tritbench.data import Dataset, Images
from tritbench.errors import TritbenchError, reported
from tritbench.files import write_atomic
from tritbench.params import Params, load_params
from tritbench.quantize import QuantizedChain, quantize_ptq, train_qat

THRESHOLDS = [round(0.1 * step, 1) for step in range(2, 11)]
SWEPT = ("threshold", "optimal", "gptq")
BATCH = 1000


def ptq(params: Params, name: str, method: str) -> str:
    """Quantize every seed's network by one method."""
    settings = params.ptq.model_copy(update={"method": method})
    rows = []
    for seed in SEEDS:
        params = params.model_copy(update={"seed": seed})
        dataset, checkpoint = load(params), models.load_checkpoint(checkpoint_path(name, seed))
        images = data.calibration_images(dataset, params.ptq.calibration[name], seed)
        start = time.perf_counter()
        quantized = quantize_ptq(
            checkpoint.model, images, checkpoint.input, params.quantize, settings
        )
        rows.append(row(seed, quantized, checkpoint, dataset, time.perf_counter() - start))
    return write(f"ptq/{name}-{method}", rows)


def sweep(params: Params, name: str) -> str:
    """Quantize the first seed's network at many thresholds."""
    params = params.model_copy(update={"seed": SEEDS[0]})
    dataset, checkpoint = load(params), models.load_checkpoint(checkpoint_path(name, SEEDS[0]))
    images = data.calibration_images(dataset, params.ptq.calibration[name], SEEDS[0])
    rows = []
    for method in SWEPT:
        for threshold in THRESHOLDS:
            start = time.perf_counter()
            quantized = quantize_ptq(
                checkpoint.model,
                images,
                checkpoint.input,
                params.quantize.model_copy(update={"threshold": threshold, "reference": "absmean"}),
                params.ptq.model_copy(update={"method": method}),
            )
            seconds = time.perf_counter() - start
            measured = row(SEEDS[0], quantized, checkpoint, dataset, seconds)
            rows.append({"method": method, "threshold": threshold} | measured)
    return write(f"sweep/{name}", rows)


def qat(params: Params, name: str, method: str) -> str:
    """Train every seed's network with ternary weights by one method."""
    device = train.use_device(params.train.device, params.train.threads)
    settings = params.qat.model_copy(update={"method": method})
    rows = []
    for seed in SEEDS:
        params = params.model_copy(update={"seed": seed})
        dataset, checkpoint = load(params), models.load_checkpoint(checkpoint_path(name, seed))
        network = checkpoint.model
        if settings.start == "scratch":
            shape, classes = checkpoint.input.shape, len(dataset.classes)
            network = models.build(name, params.model[name], shape, classes, seed)
        start = time.perf_counter()
        quantized, _ = train_qat(
            network,
            dataset.train,
            dataset.validation,
            checkpoint.input,
            params.quantize,
            settings,
            train.qat_recipe(params, name, device),
            teacher=checkpoint.model,
            label=f"{name} {method} {seed}",
        )
        rows.append(row(seed, quantized, checkpoint, dataset, time.perf_counter() - start))
    return write(f"qat/{name}-{method}", rows)


def row(
    seed: int,
    quantized: QuantizedChain,
    checkpoint: models.Checkpoint,
    dataset: Dataset,
    seconds: float,
) -> dict[str, Any]:
    """Accuracies as shares of 1; zeros, the share of 0 trits; seconds that quantizing took."""
    trits = torch.cat([weight.trits.flatten() for weight in quantized.weights.values()])
    return {
        "seed": seed,
        "fp32_test_accuracy": accuracy(checkpoint.model, checkpoint.input, dataset.test),
        "test_accuracy": accuracy(quantized.model, checkpoint.input, dataset.test),
        "fp32_accuracy": accuracy(checkpoint.model, checkpoint.input, dataset.validation),
        "accuracy": accuracy(quantized.model, checkpoint.input, dataset.validation),
        "zeros": float((trits == 0).double().mean()),
        "seconds": seconds,
        "fp32_seconds": checkpoint.provenance["seconds"],
    }


@torch.inference_mode()
def accuracy(model: nn.Sequential, spec: models.InputSpec, images: Images) -> float:
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
    means = [sum(float(r[key]) for r in rows) / len(rows) for key in ("test_accuracy", "seconds")]
    return f"{path}: {len(rows)} rows, test accuracy {means[0]:.2%}, {means[1]:.1f} s each"


MEASUREMENTS: dict[str, Callable[..., str]] = {"ptq": ptq, "sweep": sweep, "qat": qat}


def main() -> None:
    """Run the measurement that the command line names."""
    kind, *arguments = sys.argv[1:]
    if kind not in MEASUREMENTS:
        raise TritbenchError(f"{kind!r}: expected one of {', '.join(MEASUREMENTS)}")
    params = load_params()
    train.use_device("cpu", params.train.threads)
    print(f"{kind}: {MEASUREMENTS[kind](params, *arguments)}")


if __name__ == "__main__":
    with reported("methods"):
        main()
