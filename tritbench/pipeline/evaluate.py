"""Every model and mode, measured side by side in one run on one machine."""

import io
import json
import sys
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from tritbench.data import Dataset
from tritbench.devices import use_device
from tritbench.measure.benchmark import Result, measure_model
from tritbench.measure.classes import classes_without_images
from tritbench.measure.energy import Meter, find_meter
from tritbench.measure.latency import MAX_SPREAD, timer_overhead
from tritbench.measure.machine import fingerprint
from tritbench.measure.memory import PeakMemory, peak_memory
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
from tritbench.models import load_checkpoint
from tritbench.params import Params

SUFFIX = {"fp32": "safetensors", "ptq": "trit", "qat": "trit"}


def evaluate(params: Params, dataset: Dataset, folder: Path) -> dict[str, str | bytes]:
    """Measure the files in `folder`, models/NAME/MODE.SUFFIX; what benchmarks/ says, by file name.

    Raises:
        TritbenchError: naming a file that cannot be used.
    """
    use_device("cpu", params.evaluate.threads)
    modes = [mode for mode in SUFFIX if mode == "fp32" or mode in params.evaluate.modes]
    paths = {
        name: {mode: folder / name / f"{mode}.{SUFFIX[mode]}" for mode in modes}
        for name in params.models
    }
    memory = None
    if params.evaluate.latency:
        files = [path for of_model in paths.values() for path in of_model.values()]
        memory = peak_memory(files, params.evaluate.batch_sizes, params.evaluate.threads)
    meter = find_meter()
    found = meter if isinstance(meter, Meter) else None
    warn_of_classes_without_images(dataset, "evaluate")
    about = shared_columns(dataset, params.seed, Path())
    results = {
        name: measure(params, name, paths[name], dataset, about, found, memory)
        for name in params.models
    }
    singles: list[Row] = []
    if params.evaluate.latency and params.evaluate.processes:
        images = dataset.test.pixels[: params.evaluate.batch_sizes[0]].numpy()
        deployed = {name: result.deployed for name, result in results.items()}
        singles = single_calls(paths, deployed, images, params.evaluate, about)
    written = _files(params, dataset, results, meter)
    return written | {"single_calls.csv": table_csv(singles, SINGLE)}


def measure(
    params: Params,
    name: str,
    paths: dict[str, Path],
    dataset: Dataset,
    about: Row,
    meter: Meter | None = None,
    memory: Callable[[], PeakMemory] | None = None,
) -> Result:
    """The files of one model, by mode; fp32 runs as the module that params.yaml makes."""
    settings = params.of(name).model[name]
    network = load_checkpoint(paths["fp32"]).module(name, settings)
    meter = meter if params.evaluate.latency else None
    made_by = recipes(params, name)
    return measure_model(
        name, network, paths, dataset, params.evaluate, made_by, about, meter, memory
    )


def shared_columns(dataset: Dataset, seed: int, root: Path | None) -> Row:
    """The columns that all rows of a run share; `root` is the repository's, if there is one."""
    return {
        "dataset": dataset.name,
        "seed": seed,
        "run_id": uuid.uuid4().hex[:8],
        "git_rev": "none" if root is None else git_revision(root),
        "machine": fingerprint()["id"],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def warn_of_classes_without_images(dataset: Dataset, program: str) -> None:
    """Say which classes the test split has no image of; `program` begins the line."""
    if bare := classes_without_images(dataset.test.labels, dataset.classes):
        print(f"{program}: no test images of {', '.join(bare)}", file=sys.stderr)


def _files(
    params: Params, dataset: Dataset, results: dict[str, Result], meter: Meter | str
) -> dict[str, str | bytes]:
    rows = _joined(result.rows for result in results.values())
    metrics = metrics_json(rows)
    metrics["latency"] = {
        "machine": fingerprint(),
        "engine": list(results.values())[-1].engine,
        "threads": params.evaluate.threads,
        "max_spread": MAX_SPREAD,
        "timer": timer_overhead(),
        "energy": meter if isinstance(meter, str) else f"RAPL, {len(meter.zones)} packages",
        "absent_peers": {
            n: result.unavailable for n, result in results.items() if result.unavailable
        },
        "models": metrics["latency"],
    }
    metrics["metrics"] = brief_metrics(rows)
    logits = {
        f"{name}.{mode}": logits.numpy()
        for name, result in results.items()
        for mode, logits in result.test_logits.items()
    }
    archive = io.BytesIO()
    np.savez_compressed(archive, labels=dataset.test.labels.numpy(), **logits)  # type: ignore[arg-type]
    return {
        **{f"{name}.json": json.dumps(m, indent=2) + "\n" for name, m in metrics.items()},
        "quantization_runs.csv": rows_csv(rows),
        "peers.csv": rows_csv(_joined(result.peers for result in results.values())),
        "per_class.csv": table_csv(_joined(result.classes for result in results.values())),
        "confusion.csv": table_csv(_joined(result.confusions for result in results.values())),
        "predictions.npz": archive.getvalue(),
    }


def _joined(parts: Iterable[list[Row]]) -> list[Row]:
    return [row for part in parts for row in part]
