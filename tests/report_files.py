"""The files that the report is made of, small and with names that would break it unescaped."""

import csv
import json
from pathlib import Path

import numpy as np
import torch
from networks import by_ptq
from tiny import write_tiny_dataset

from tritbench.models import Checkpoint, InputSpec, build, save_checkpoint
from tritbench.packing import save_trit
from tritbench.params import PtqParams, QuantizeParams
from tritbench.report.evidence import Evidence, read_evidence
from tritbench.report.page import page_html
from tritbench.report.runs import Results, read_results
from tritbench.report.sweeps import COLUMNS, SweepRow, sweep_csv

DATASET = "<b>|x"
CLASSES = ["<b>|x", 'say "hi"', "a&b`c", "Ankle boot"]
ENGINE = "test engine <i>"
TITLE = "Ternary & FP32"
PERCENT = {"fp32": 0.9, "ptq": 0.85, "qat": 0.8912}
MODELS = ("mlp", "cnn")
IMAGES = 40
SIZE = 8


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_inputs(folder: Path, models: tuple[str, ...] = MODELS) -> Path:
    runs: list[dict[str, object]] = []
    confusion: list[dict[str, object]] = []
    for number, model in enumerate(models):
        for mode, accuracy in PERCENT.items():
            ternary = mode != "fp32"
            for batch in (1, 128):
                latency = 5e-5 * batch**0.5 * (number + 1) / (4 if ternary else 1)
                runs.append(
                    dict(model=model, mode=mode, batch_size=batch, accuracy=accuracy + 0.01)
                    | dict(loss=0.4, latency_s=latency, bytes=170_000 if ternary else 2_678_824)
                    | dict(test_accuracy=accuracy, test_accuracy_low=accuracy - 0.006)
                    | dict(test_accuracy_high=accuracy + 0.005, latency_p95_s=latency * 1.2)
                    | dict(speedup=4 if ternary else 1, compression=15.76 if ternary else 1)
                    | dict(file_bytes=171_000, bits_per_weight=1.6 if ternary else "")
                    | dict(zeros=0.41 if ternary else "", agreement=1.0, threads=1)
                    | dict(method={"ptq": "gptq", "qat": "lsq"}.get(mode, ""))
                    | dict(dataset=DATASET, seed=7, run_id="r1", git_rev="0123abcdef-dirty")
                    | dict(machine="m1", timestamp="2025-01-02T03:04:05Z")
                    | dict(mcnemar_p={"ptq": 0.5, "qat": 0.0021}.get(mode, ""))
                    | dict(speedup_low=3.9 if ternary else 1, speedup_high=4.1 if ternary else 1)
                    | dict(disturbed=str(mode == "qat" and batch == 128).lower())
                )
            confusion += [
                dict(
                    model=model,
                    mode=mode,
                    actual=a,
                    predicted=p,
                    count=(90 if a == p else 3 + len(mode + model)),
                )
                for a in CLASSES
                for p in CLASSES
            ]
        for mode in ("fp32", "qat"):
            epochs = [
                dict(epoch=e, train_loss=1 / e, train_accuracy=0.8, val_loss=1.1 / e)
                | dict(val_accuracy=0.7 + e / 20, lr=0.1)
                for e in (1, 2, 3)
            ]
            write_csv(folder / "training" / model / f"{mode}.csv", epochs)
    write_csv(folder / "quantization_runs.csv", runs)
    write_csv(folder / "confusion.csv", confusion)
    machine = dict(id="m1", cpu="Some CPU", cores=4, isa="AVX2", python="3.11", torch="2.13")
    about = {"machine": machine, "engine": ENGINE, "energy": "no <RAPL> here"}
    about["absent_peers"] = {models[0]: {"ggml": "not <installed>"}}
    (folder / "latency.json").write_text(json.dumps(about))
    return folder


def write_extras(folder: Path, models: tuple[str, ...] = MODELS) -> None:
    """The tables that a run need not have."""
    pairs = [(model, mode) for model in models for mode in PERCENT]
    scores = [
        dict(model=model, mode=mode, low=0.7, high=0.9, accuracy=0.8) | {"class": name}
        for model, mode in pairs
        for name in CLASSES
    ]
    write_csv(folder / "per_class.csv", scores)
    write_csv(
        folder / "peers.csv",
        [
            dict(model=model, mode="peer", method=method, batch_size=1, run_id=run)
            | dict(latency_s=latency, speedup=2, bytes=700_000, test_accuracy=0.9)
            | dict(test_accuracy_low="", test_accuracy_high="")
            for model in models
            for method, run, latency in [
                ("onnxruntime <int8>", "r1", 3e-5),
                ("absent", "r1", ""),
                ("of another run", "r0", 1e-5),
            ]
        ],
    )
    write_csv(
        folder / "sweep.csv",
        [
            dict(model=model, method="threshold", threshold=threshold, dataset=dataset)
            | dict(accuracy=0.9 - threshold / 10, fp32_accuracy=0.9)
            | dict(test_accuracy=0.91 - threshold / 10, fp32_test_accuracy=0.91)
            for model in models
            for threshold in (0.2, 0.6, 1.0)
            for dataset in (DATASET, "another")
        ],
    )


def write_seeds(path: Path, models: tuple[str, ...] = MODELS) -> None:
    """What the methods of the runs give with three fresh seeds."""
    rows = [
        dict(model=model, mode=mode, method=method, phase="confirmation", seed=seed)
        | dict(accuracy=0.9, fp32_accuracy=0.91, test_accuracy=0.89 + seed / 5000)
        | dict(fp32_test_accuracy=0.9, zeros="" if mode == "control" else 0.4)
        | dict(seconds=1.5, fp32_seconds=2, dataset=DATASET)
        for model in models
        for mode, method in (("control", ""), ("ptq", "gptq"), ("qat", "lsq"))
        for seed in (5, 6, 7)
    ]
    write_csv(path, rows)


def write_sweep(path: Path, dataset: str = DATASET) -> list[SweepRow]:
    """A sweep's CSV file: FP32, and two points of PTQ of which one is on the front."""
    shared = dict.fromkeys(COLUMNS) | {"model": "mlp", "dataset": dataset, "seed": "0"}
    rows = [
        {"point": None, "quantize.threshold": None}
        | shared
        | {"mode": "fp32", "accuracy": 0.9, "test_accuracy": 0.89, "bytes": 9000, "front": 1.0},
        *(
            {"point": f"mine-{threshold}", "quantize.threshold": threshold}
            | shared
            | {"mode": "ptq", "method": "optimal", "accuracy": accuracy, "front": on_front}
            | {"test_accuracy": accuracy - 0.01, "bytes": 500, "zeros": 0.25}
            for threshold, accuracy, on_front in (("0.5", 0.8, None), ("0.7", 0.85, 1.0))
        ),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(sweep_csv(rows, ["quantize.threshold"]))
    return rows


def add_columns(path: Path, ternary: dict[str, object], without: tuple[str, ...] = ()) -> None:
    """Give quantization_runs.csv more columns, with values in the ternary rows, or fewer."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    blank = dict.fromkeys(ternary, "")
    rows = [row | (ternary if row["mode"] != "fp32" else blank) for row in rows]
    write_csv(path, [{k: v for k, v in row.items() if k not in without} for row in rows])


def evidence(folder: Path, results: Results) -> Evidence:
    """Of networks that were not trained: their files, the images and predictions."""
    data = write_tiny_dataset(folder / "data", 60, IMAGES, SIZE, len(CLASSES), names=CLASSES)
    spec = InputSpec((1, SIZE, SIZE), (0.3,), (0.3,))
    quantize = QuantizeParams(
        threshold=0.5, reference="absmean", granularity="channel", backend="native"
    )
    ptq = PtqParams(method="threshold", calibration=256, bias_correction=False, batchnorm=False)
    settings = {"linear": {}, "mlp": {"hidden": [12]}, "cnn": {"channels": [4], "hidden": 8}}
    random = np.random.default_rng(0)
    predictions = {"labels": np.arange(IMAGES) % len(CLASSES)}
    for model in results.models:
        network = build(model, settings[model], spec.shape, len(CLASSES), 0).eval()
        models = folder / "models" / model
        save_checkpoint(models / "fp32.safetensors", Checkpoint.of(network, spec, CLASSES, {}))
        images = torch.zeros(16, *spec.shape, dtype=torch.uint8)
        ternary = by_ptq(network, images, spec, quantize, ptq)
        for mode in ("ptq", "qat"):
            save_trit(models / f"{mode}.trit", ternary, spec, CLASSES, {})
        for mode in PERCENT:
            logits = random.normal(size=(IMAGES, len(CLASSES))).astype(np.float32)
            predictions[f"{model}.{mode}"] = logits
    np.savez_compressed(folder / "predictions.npz", **predictions)
    write_sweep(folder / "sweeps/mine.csv")
    write_sweep(folder / "sweeps/elsewhere.csv", "another")
    sweeps = folder / "sweeps"
    return read_evidence(results, folder / "models", data, folder, sweeps, "fashion-mnist")


def full_page(folder: Path) -> str:
    """A page with every section."""
    write_inputs(folder)
    write_extras(folder)
    write_seeds(folder / "methods_raw.csv")
    results = read_results(folder, MODELS)
    return page_html(results, evidence(folder, results), TITLE)
