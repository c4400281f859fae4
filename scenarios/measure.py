"""Every network in MLPerf's scenarios: `python -m scenarios.measure`."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from scenarios.queries import Call, Taken, offline, server, single_stream
from tritbench import data, runtime, train
from tritbench.data import Dataset
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.measure.accuracy import score
from tritbench.measure.peers import FloatNetwork, deployed
from tritbench.measure.rows import Row, table_csv
from tritbench.models import load_checkpoint
from tritbench.params import Params, load_params
from tritbench.pipeline.evaluate import SUFFIX, shared_columns

OUT = Path("benchmarks/scenarios.csv")
SECONDS = 3.0  # of each, at least
LOAD = 0.5  # of the server, in what a single stream got through
BATCH = 128  # images, offline


def main() -> None:
    """Write a row for each network, mode and scenario."""
    params = load_params()
    dataset = data.load(params.data.folder, params.data.validation, params.seed)
    about = shared_columns(dataset, params.seed, Path())
    rows = [
        row | about
        for name in tqdm(params.models, "scenarios", unit="network", leave=False)
        for mode in ("fp32", *params.evaluate.modes)
        for row in measured(params, name, mode, dataset)
    ]
    write_atomic(OUT, table_csv(rows))
    print(f"scenarios: {OUT}: {len(rows)} rows")


def measured(params: Params, name: str, mode: str, dataset: Dataset) -> Iterator[Row]:
    """The rows of one network in one mode; offline on all processors, the others on one."""
    path, images = Path("models") / name / f"{mode}.{SUFFIX[mode]}", dataset.test.pixels
    one, everything = 1, len(os.sched_getaffinity(0))
    call = runner(params, name, path, dataset, one)
    single = single_stream(call, images, SECONDS)
    rate = LOAD * single.images / single.seconds
    found = {
        "single stream": (single, one, 1, None),
        "server": (server(call, images, rate, SECONDS, params.seed), one, 1, rate),
    }
    call = runner(params, name, path, dataset, everything)
    found["offline"] = (offline(call, images, BATCH, SECONDS), everything, BATCH, None)
    for scenario, (taken, threads, batch, asked) in found.items():
        yield {
            "model": name,
            "mode": mode,
            "scenario": scenario,
            "threads": threads,
            "batch_size": batch,
            "rate": asked,
            **figures(taken, dataset),
        }


def figures(taken: Taken, dataset: Dataset) -> Row:
    """Latencies and throughput, and the accuracy of the same answers."""
    accuracy = score(taken.logits, dataset.test.labels[: len(taken.logits)])
    return {
        "queries": len(taken.latencies),
        "seconds": taken.seconds,
        "images_per_s": taken.images / taken.seconds,
        "latency_p50_s": taken.percentile(50),
        "latency_p90_s": taken.percentile(90),
        "latency_p99_s": taken.percentile(99),
        "images": len(taken.logits),
        "test_accuracy": accuracy.accuracy,
        "test_accuracy_low": accuracy.low,
        "test_accuracy_high": accuracy.high,
    }


def runner(params: Params, name: str, path: Path, dataset: Dataset, threads: int) -> Call:
    """What runs a file: FP32 as one deploys it in PyTorch, ternary files on the engine."""
    train.use_device("cpu", threads)
    if path.suffix == ".trit":
        return runtime.load(path, threads)
    checkpoint = load_checkpoint(path)
    module = checkpoint.module(name, params.of(name).model[name])
    network = FloatNetwork(module, checkpoint.graph, checkpoint.input)
    call = deployed(network, dataset.train.pixels[:BATCH])

    def without_gradients(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return call(images)  # type: ignore[no-any-return]

    return without_gradients


if __name__ == "__main__":
    with reported("scenarios"):
        main()
