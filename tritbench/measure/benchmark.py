"""One model in its three modes, side by side: accuracy, latency and bytes as rows."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from tritbench import runtime
from tritbench.data import Dataset
from tritbench.measure.accuracy import Score, agreement, predict, score
from tritbench.measure.latency import Latency, interleaved
from tritbench.measure.rows import Row
from tritbench.measure.storage import Storage, float_storage, ternary_storage
from tritbench.models import load_checkpoint, weight_layers
from tritbench.packing import load_trit
from tritbench.params import EvaluateParams


@dataclass(frozen=True)
class Result:
    """The rows of one model, its logits on the test split by mode, and what ran it last."""

    rows: list[Row]
    test_logits: dict[str, Tensor]
    engine: str


def measure_model(
    name: str,
    paths: Mapping[str, Path],
    dataset: Dataset,
    settings: EvaluateParams,
    methods: Mapping[str, str],
    about: Mapping[str, object],
) -> Result:
    """Run the files of one model; one row for each mode and batch size.

    Ternary files run on the native engine, and on the PyTorch reference beside it.

    Args:
        name: the model's name.
        paths: mode (fp32 first, then ptq, qat) to file.
        dataset: its validation split gives `accuracy` and `loss`, its test split the rest.
        settings: batch sizes, threads, time for each measurement.
        methods: of quantization, by mode.
        about: columns that all rows share: dataset, seed, run_id, git_rev, machine, timestamp.

    Raises:
        TritbenchError: naming a file that cannot be used.
    """
    models = {mode: runtime.load(path, settings.threads) for mode, path in paths.items()}
    references = {
        mode: runtime.load_reference(path) for mode, path in paths.items() if path.suffix == ".trit"
    }
    storage = {mode: stored(path) for mode, path in paths.items()}
    start = time.perf_counter()
    validation = {
        mode: score(
            predict(model, dataset.validation.pixels, str(paths[mode])), dataset.validation.labels
        )
        for mode, model in models.items()
    }
    logits = {
        mode: predict(model, dataset.test.pixels, str(paths[mode]))
        for mode, model in models.items()
    }
    test = {mode: score(z, dataset.test.labels) for mode, z in logits.items()}
    expected = {
        mode: score(predict(model, dataset.test.pixels, str(paths[mode])), dataset.test.labels)
        for mode, model in references.items()
    }
    rows: list[Row] = []
    for batch_size in settings.batch_sizes:
        images = dataset.test.pixels[np.arange(batch_size) % len(dataset.test)]
        latency = interleaved(
            {**models, **{f"{mode} reference": model for mode, model in references.items()}},
            images,
            threads=settings.threads,
            min_run_time=settings.min_run_time,
            min_runs=settings.min_runs,
        )
        for mode in paths:
            rows.append(
                {
                    "model": name,
                    "mode": mode,
                    "batch_size": batch_size,
                    "accuracy": validation[mode].accuracy,
                    "loss": validation[mode].loss,
                    "latency_s": latency[mode].median_s,
                    "bytes": storage[mode].bytes,
                    "test_accuracy": test[mode].accuracy,
                    "test_accuracy_low": test[mode].low,
                    "test_accuracy_high": test[mode].high,
                    "latency_p95_s": latency[mode].p95_s,
                    "speedup": latency["fp32"].median_s / latency[mode].median_s,
                    "compression": storage["fp32"].bytes / storage[mode].bytes,
                    "file_bytes": storage[mode].file_bytes,
                    "bits_per_weight": storage[mode].bits_per_weight,
                    "zeros": storage[mode].zeros,
                    "agreement": agreement(logits[mode], logits["fp32"]),
                    **_reference(mode, test, expected, latency),
                    "method": methods.get(mode, ""),
                    "threads": settings.threads,
                    **about,
                }
            )
    print(f"{name}: {', '.join(paths)} measured in {time.perf_counter() - start:.1f} s")
    return Result(rows, logits, models[mode].engine)


def _reference(
    mode: str,
    test: Mapping[str, Score],
    expected: Mapping[str, Score],
    latency: Mapping[str, Latency],
) -> Row:
    """What the PyTorch reference gives where the engine has another number; FP32 has none."""
    if mode not in expected:
        keys = ("reference_accuracy", "engine_accuracy_delta", "reference_latency_s")
        return dict.fromkeys(keys)
    return {
        "reference_accuracy": expected[mode].accuracy,
        "engine_accuracy_delta": test[mode].accuracy - expected[mode].accuracy,
        "reference_latency_s": latency[f"{mode} reference"].median_s,
    }


def stored(path: Path) -> Storage:
    """What a model file stores.

    FP32 counts what a deployed float network holds: its weights and one bias for each output,
    BatchNorm folded, 4 bytes each.
    """
    if path.suffix == ".trit":
        network = load_trit(path)
        arrays = [layer.arrays for layer in network.layers]
        return ternary_storage(path, network.stored, [a["trits"] for a in arrays if "trits" in a])
    weights = [layer.weight for layer in weight_layers(load_checkpoint(path).model).values()]
    return float_storage(path, sum(w.numel() for w in weights), sum(len(w) for w in weights))
