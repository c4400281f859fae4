"""Every network in MLPerf's scenarios: `python -m scenarios.measure`."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import torch
from tqdm import tqdm

from scenarios.queries import Call, Taken, offline, server, single_stream
from tritbench import data, runtime
from tritbench.data import Dataset
from tritbench.devices import use_device
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.measure.accuracy import score
from tritbench.measure.peers import FloatNetwork, deployed
from tritbench.measure.rows import Row, table_csv
from tritbench.models import load_checkpoint
from tritbench.params import Params, load_params
from tritbench.pipeline.evaluate import SUFFIX, shared_columns

OUT = Path("benchmarks/scenarios.csv")
ROUNDS = 5  # through all networks, by turns
SECONDS = 1.0  # of each scenario in a round, at least
LOAD = 0.5  # of the server, in what a single stream got through
BATCH = 128  # images, offline
SCENARIOS = ("single stream", "server", "offline")


def main(seconds: float = SECONDS) -> None:
    """Write a row for each network, mode and scenario, of `seconds` in each round at least."""
    params = load_params()
    dataset = data.load(params.data.folder, params.data.validation, params.seed)
    about = shared_columns(dataset, params.seed, Path())
    modes = ("fp32", *params.evaluate.modes)
    networks = [(name, mode) for name in params.models for mode in modes]
    everything = len(os.sched_getaffinity(0))
    threads = {"single stream": 1, "server": 1, "offline": everything}
    calls = {
        (name, mode, n): runner(params, name, mode, dataset, n)
        for name, mode in networks
        for n in (1, everything)
    }
    taken: dict[tuple[str, str, str], list[Taken]] = {}
    for _ in tqdm(range(ROUNDS), "scenarios", unit="round", leave=False):
        for name, mode in networks:
            one, all_ = calls[name, mode, 1], calls[name, mode, everything]
            for scenario, found in one_round(one, all_, dataset, params.seed, everything, seconds):
                taken.setdefault((name, mode, scenario), []).append(found)
    rows: list[Row] = [
        {"model": name, "mode": mode, "scenario": scenario, "threads": threads[scenario]}
        | figures(taken[name, mode, scenario], dataset)
        | about
        for name, mode in networks
        for scenario in SCENARIOS
    ]
    write_atomic(OUT, table_csv(rows))
    print(f"scenarios: {OUT}: {len(rows)} rows")


def one_round(
    one: Call, everything: Call, dataset: Dataset, seed: int, threads: int, seconds: float
) -> Iterator[tuple[str, Taken]]:
    """The scenarios of one network: offline on all processors, the others on one."""
    images = dataset.test.pixels
    torch.set_num_threads(1)
    single = single_stream(one, images, seconds)
    yield "single stream", single
    yield "server", server(one, images, LOAD * single.images / single.seconds, seconds, seed)
    torch.set_num_threads(threads)
    yield "offline", offline(everything, images, BATCH, seconds)


def figures(rounds: Sequence[Taken], dataset: Dataset) -> Row:
    """Medians over the rounds: a machine that stands still spoils one. Accuracy is of the answers
    of the first."""
    logits = rounds[0].logits
    accuracy = score(logits, dataset.test.labels[: len(logits)])
    return {
        "rounds": len(rounds),
        "queries": median(len(taken.latencies) for taken in rounds),
        "seconds": median(taken.seconds for taken in rounds),
        "images_per_s": median(taken.images / taken.seconds for taken in rounds),
        "latency_p50_s": median(taken.percentile(50) for taken in rounds),
        "latency_p90_s": median(taken.percentile(90) for taken in rounds),
        "latency_p99_s": median(taken.percentile(99) for taken in rounds),
        "images": len(logits),
        "test_accuracy": accuracy.accuracy,
        "test_accuracy_low": accuracy.low,
        "test_accuracy_high": accuracy.high,
    }


def runner(params: Params, name: str, mode: str, dataset: Dataset, threads: int) -> Call:
    """What runs a network: FP32 as one deploys it in PyTorch, ternary files on the engine."""
    use_device("cpu", threads)
    path = Path("models") / name / f"{mode}.{SUFFIX[mode]}"
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
        main(*(float(seconds) for seconds in sys.argv[1:]))
