"""One model in its three modes, side by side: accuracy, latency and bytes as rows."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from tritbench import runtime
from tritbench.data import Dataset
from tritbench.measure.accuracy import (
    Score,
    agreement,
    calibration_error,
    flips,
    predict,
    score,
    score_classes,
)
from tritbench.measure.latency import Latency, interleaved
from tritbench.measure.rows import METRICS, Row
from tritbench.measure.statistics import ratio_interval
from tritbench.measure.storage import Storage, float_storage, ternary_storage
from tritbench.models import load_checkpoint, weight_layers
from tritbench.packing import load_trit
from tritbench.params import EvaluateParams


@dataclass(frozen=True)
class Result:
    """One model's measurements.

    Attributes:
        rows: one for each mode and batch size.
        classes: one for each mode and class: model, mode, class, accuracy, low, high.
        test_logits: [n, classes] on the test split, by mode.
        engine: what ran it last, in words.
    """

    rows: list[Row]
    classes: list[Row]
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
    validation, test = dataset.validation, dataset.test
    logits: dict[str, Tensor] = {}
    fixed: dict[str, Row] = {}  # by mode, what holds at every batch size
    for mode, model in models.items():
        label = str(paths[mode])
        logits[mode] = predict(model, test.pixels, label)
        fixed[mode] = {
            **_validation(score(predict(model, validation.pixels, label), validation.labels)),
            **_test(logits[mode], logits["fp32"], test.labels, is_fp32=mode == "fp32"),
            **_storage(storage[mode], storage["fp32"]),
            "peak_memory_bytes": None,
            "joules_per_image": None,
            "reference_accuracy": None,
            "engine_accuracy_delta": None,
            "method": methods.get(mode, ""),
        }
    for mode, model in references.items():
        reference = score(predict(model, test.pixels, str(paths[mode])), test.labels).accuracy
        fixed[mode]["reference_accuracy"] = reference
        fixed[mode]["engine_accuracy_delta"] = fixed[mode]["test_accuracy"] - reference
    rows: list[Row] = []
    for batch_size in settings.batch_sizes:
        latency = interleaved(
            {**models, **{f"{mode} reference": model for mode, model in references.items()}},
            test.pixels[np.arange(batch_size) % len(test)],
            threads=settings.threads,
            min_run_time=settings.min_run_time,
            min_runs=settings.min_runs,
        )
        rows += [
            {
                "model": name,
                "mode": mode,
                "batch_size": batch_size,
                **columns,
                **_latency(mode, latency),
                "threads": settings.threads,
                **about,
            }
            for mode, columns in fixed.items()
        ]
    classes = [
        {"model": name, "mode": mode, "class": label, **_interval(found)}
        for mode, z in logits.items()
        for label, found in zip(dataset.classes, score_classes(z, test.labels), strict=True)
    ]
    print(f"{name}: {', '.join(paths)} measured in {time.perf_counter() - start:.1f} s")
    return Result(rows, classes, logits, models[mode].engine)


def _validation(found: Score) -> Row:
    return {"accuracy": found.accuracy, "loss": found.loss}


def _test(logits: Tensor, fp32: Tensor, labels: Tensor, is_fp32: bool) -> Row:
    found = score(logits, labels)
    flipped = None if is_fp32 else flips(logits, fp32, labels)
    return {
        "test_accuracy": found.accuracy,
        "test_accuracy_low": found.low,
        "test_accuracy_high": found.high,
        "test_loss": found.loss,
        "ece": calibration_error(logits, labels),
        "mcnemar_p": flipped and flipped.p,
        "flips_lost": flipped and flipped.lost,
        "flips_won": flipped and flipped.won,
        "agreement": agreement(logits, fp32),
    }


def _storage(own: Storage, fp32: Storage) -> Row:
    return {**vars(own), "compression": fp32.bytes / own.bytes}


def _latency(name: str, taken: Mapping[str, Latency]) -> Row:
    """The columns of one model's latency; empty where it was not timed."""
    columns = [column for column in METRICS["latency"] if column != "joules_per_image"]
    if name not in taken:
        return dict.fromkeys(columns)
    own, fp32 = taken[name], taken["fp32"]
    interval = ratio_interval(fp32.blocks, own.blocks) if name != "fp32" else (1.0, 1.0)
    low, high = interval or (None, None)
    reference = taken.get(f"{name} reference")
    return {
        "latency_s": own.median_s,
        "latency_iqr_s": own.iqr_s,
        "latency_p95_s": own.p95_s,
        "latency_p99_s": own.p99_s,
        "disturbed": own.disturbed or fp32.disturbed,  # the speed-up is as good as both of them
        "speedup": fp32.median_s / own.median_s,
        "speedup_low": low,
        "speedup_high": high,
        "reference_latency_s": reference and reference.median_s,
    }


def _interval(found: Score | None) -> Row:
    if found is None:
        return dict.fromkeys(("accuracy", "low", "high"))
    return {"accuracy": found.accuracy, "low": found.low, "high": found.high}


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
