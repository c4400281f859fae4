"""Measure all models in all modes, in one run on one machine."""

import io
import json
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from tritbench import data, train
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.graph import Graph
from tritbench.measure.benchmark import measure_model
from tritbench.measure.classes import classes_without_images
from tritbench.measure.energy import Meter, find_meter
from tritbench.measure.latency import MAX_SPREAD, timer_overhead
from tritbench.measure.machine import fingerprint
from tritbench.measure.memory import peak_memory
from tritbench.measure.rows import (
    Row,
    brief_metrics,
    git_revision,
    metrics_json,
    recipes,
    rows_csv,
    table_csv,
)
from tritbench.measure.single import COLUMNS as SINGLE
from tritbench.measure.single import single_calls
from tritbench.params import load_params

SUFFIX = {"fp32": "safetensors", "ptq": "trit", "qat": "trit"}
OUT = Path("benchmarks")


def main() -> None:
    """Write what benchmarks/ says about the artifacts in models/."""
    params = load_params()
    train.use_device("cpu", params.evaluate.threads)
    modes = [mode for mode in SUFFIX if mode == "fp32" or mode in params.evaluate.modes]
    paths = {
        name: {m: Path("models") / name / f"{m}.{SUFFIX[m]}" for m in modes}
        for name in params.models
    }
    files = [path for of_model in paths.values() for path in of_model.values()]
    sizes, threads = params.evaluate.batch_sizes, params.evaluate.threads
    memory = peak_memory(files, sizes, threads) if params.evaluate.latency else None
    meter = find_meter()
    dataset = data.load(params.data.folder, params.data.validation, params.seed)
    if bare := classes_without_images(dataset.test.labels, dataset.classes):
        print(f"evaluate: no test images of {', '.join(bare)}", file=sys.stderr)
    machine = fingerprint()
    about: Row = {
        "dataset": dataset.name,
        "seed": params.seed,
        "run_id": uuid.uuid4().hex[:8],
        "git_rev": git_revision(Path()),
        "machine": machine["id"],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    made = recipes(params)
    rows: list[Row] = []
    peers: list[Row] = []
    absent: dict[str, dict[str, str]] = {}
    classes: list[Row] = []
    predictions: dict[str, np.ndarray] = {"labels": dataset.test.labels.numpy()}
    confusions: list[Row] = []
    deployed: dict[str, Graph] = {}
    for name in params.models:
        result = measure_model(
            name,
            paths[name],
            dataset,
            params.evaluate,
            made,
            about,
            meter if isinstance(meter, Meter) and params.evaluate.latency else None,
            memory,
        )
        rows += result.rows
        peers += result.peers
        absent |= {name: result.absent} if result.absent else {}
        classes += result.classes
        confusions += result.confusions
        deployed[name] = result.deployed
        for mode, logits in result.test_logits.items():
            predictions[f"{name}.{mode}"] = logits.numpy()
    singles: list[Row] = []
    if params.evaluate.latency and params.evaluate.processes:
        images = dataset.test.pixels[: sizes[0]].numpy()
        singles = single_calls(paths, deployed, images, params.evaluate, about)
    metrics = metrics_json(rows)
    metrics["latency"] = {
        "machine": machine,
        "engine": result.engine,
        "threads": threads,
        "max_spread": MAX_SPREAD,
        "timer": timer_overhead(),
        "energy": meter if isinstance(meter, str) else f"RAPL, {len(meter.zones)} packages",
        "absent_peers": absent,
        "models": metrics["latency"],
    }
    metrics["metrics"] = brief_metrics(rows)
    for name, content in metrics.items():
        write_atomic(OUT / f"{name}.json", json.dumps(content, indent=2) + "\n")
    write_atomic(OUT / "quantization_runs.csv", rows_csv(rows))
    write_atomic(OUT / "peers.csv", rows_csv(peers))
    write_atomic(OUT / "single_calls.csv", table_csv(singles, SINGLE))
    write_atomic(OUT / "per_class.csv", table_csv(classes))
    write_atomic(OUT / "confusion.csv", table_csv(confusions))
    archive = io.BytesIO()
    np.savez_compressed(archive, **predictions)  # type: ignore[arg-type]
    write_atomic(OUT / "predictions.npz", archive.getvalue())
    print(f"evaluate: {OUT}/quantization_runs.csv: {len(rows)} rows, {dataset.name}")


if __name__ == "__main__":
    with reported("evaluate"):
        main()
