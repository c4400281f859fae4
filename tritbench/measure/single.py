"""Calls one by one, with warm and with cold caches, each network in several fresh processes.

    python -m tritbench.measure.single '{"runs": [[NAME, FILE], ...], "shape": [...], "threads": N}'

reads a batch of pixels and prints, by name, what `Taken` has. Within one process all calls find the
same addresses; what differs from process to process is in no interval that one of them gives.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError, last_lines
from tritbench.graph import Graph, from_json, to_json
from tritbench.measure.rows import Row
from tritbench.measure.statistics import median_interval, ratio_interval
from tritbench.params import EvaluateParams

WARM_UP, WARM, COLD = 20, 200, 5  # calls of a process
EVICTED = 2**26  # bytes written before a cold call: more than caches hold
COLUMNS = (
    *("model", "mode", "batch_size", "processes"),
    *("latency_cold_s", "latency_cold_low", "latency_cold_high"),
    *("cold_speedup", "cold_speedup_low", "cold_speedup_high"),
    *("latency_p50_s", "latency_p50_low", "latency_p50_high", "latency_p99_s"),
    *("p50_speedup", "p50_speedup_low", "p50_speedup_high"),
    *("threads", "dataset", "run_id", "machine"),
)


@dataclass(frozen=True)
class Taken:
    """What one process measured of one network, in seconds: medians, and a percentile of calls."""

    cold: float
    p50: float
    p99: float


def save_graph(path: Path, graph: Graph) -> None:
    """A float graph, for processes that run it without the module that it comes from."""
    arrays = {f"parameter {name}": array for name, array in graph.parameters.items()}
    about = np.frombuffer(json.dumps(to_json(graph)).encode(), np.uint8)
    np.savez(path, about=about, **arrays)  # type: ignore[arg-type]


def _load(path: Path, threads: int) -> Any:
    """What runs a .trit file, or a float graph that `save_graph` wrote."""
    if path.suffix == ".trit":
        from tritbench import runtime

        return runtime.load(path, threads)
    import torch

    from tritbench.graph.straight import straight

    with np.load(path, allow_pickle=False) as file:
        arrays = {
            name.removeprefix("parameter "): file[name] for name in file.files if name != "about"
        }
        function = straight(from_json(json.loads(file["about"].tobytes()), arrays))
    torch.set_num_threads(threads)

    def call(images: NDArray[np.uint8]) -> Any:
        with torch.inference_mode():
            return function(torch.from_numpy(images).float())

    return call


def single_calls(
    paths: Mapping[str, Mapping[str, Path]],
    deployed: Mapping[str, Graph],
    images: NDArray[np.uint8],
    settings: EvaluateParams,
    about: Mapping[str, object],
) -> list[Row]:
    """Rows of `COLUMNS` for each model and mode; `settings.processes` processes measure them all.

    Args:
        paths: mode (fp32 first) to file, by model.
        deployed: of FP32, what runs in place of its file: a graph of pixels, by model.
        images: one batch.
        settings: threads and processes.
        about: what all rows share.

    Raises:
        TritbenchError: with what a process that failed said last.
    """
    with tempfile.TemporaryDirectory(prefix="tritbench.") as folder:
        networks = {}
        for model, modes in paths.items():
            for mode, path in modes.items():
                networks[f"{model} {mode}"] = path
            networks[f"{model} fp32"] = Path(folder) / f"{model}.npz"
            save_graph(networks[f"{model} fp32"], deployed[model])
        taken = _processes(networks, images, settings.threads, settings.processes)
    return [
        row
        for model, modes in paths.items()
        for row in _rows(
            model,
            [{mode: process[f"{model} {mode}"] for mode in modes} for process in taken],
            {"batch_size": len(images), "threads": settings.threads, **about},
        )
    ]


def _processes(
    networks: Mapping[str, Path], images: NDArray[np.uint8], threads: int, processes: int
) -> list[dict[str, Taken]]:
    """What each measures of all networks, one process after another, in an order of its own."""
    found = []
    for number in range(processes):
        order = np.random.default_rng(number).permutation(list(networks)).tolist()
        runs = [(name, str(networks[name])) for name in order]
        task = {"runs": runs, "shape": images.shape, "threads": threads}
        command = [sys.executable, "-m", "tritbench.measure.single", json.dumps(task)]
        result = subprocess.run(command, input=images.tobytes(), capture_output=True)
        if result.returncode:
            said = last_lines(result.stderr.decode(errors="replace"), 1)
            raise TritbenchError(f"a process that measures single calls failed: {said}")
        taken = json.loads(result.stdout)
        found.append({name: Taken(**values) for name, values in taken.items()})
    return found


def _rows(
    model: str, taken: Sequence[Mapping[str, Taken]], about: Mapping[str, object]
) -> list[Row]:
    """A row for each mode; intervals are bootstraps over the processes."""
    rows = []
    for mode in taken[0]:
        row: Row = {"model": model, "mode": mode, "processes": len(taken), **about}
        for name, column in (("cold", "latency_cold"), ("p50", "latency_p50")):
            own = np.array([getattr(process[mode], name) for process in taken])
            fp32 = np.array([getattr(process["fp32"], name) for process in taken])
            row[f"{column}_s"] = float(np.median(own))
            row[f"{column}_low"], row[f"{column}_high"] = median_interval(own) or (None, None)
            ratio = ratio_interval(fp32, own) if mode != "fp32" else (1.0, 1.0)
            row[f"{name}_speedup"] = float(np.median(fp32) / np.median(own))
            row[f"{name}_speedup_low"], row[f"{name}_speedup_high"] = ratio or (None, None)
        row["latency_p99_s"] = float(np.median([process[mode].p99 for process in taken]))
        rows.append({column: row[column] for column in COLUMNS})
    return rows


def _measure(call: Any, images: NDArray[np.uint8]) -> Taken:
    def timed() -> float:
        start = time.perf_counter()
        call(images)
        return time.perf_counter() - start

    for _ in range(WARM_UP):
        call(images)
    warm = [timed() for _ in range(WARM)]
    evicted = np.zeros(EVICTED // 8)
    cold = []
    for _ in range(COLD):
        evicted += 1
        cold.append(timed())
    return Taken(float(np.median(cold)), float(np.median(warm)), float(np.percentile(warm, 99)))


def _main(runs: list[tuple[str, str]], shape: list[int], threads: int) -> None:
    images = np.frombuffer(bytearray(sys.stdin.buffer.read()), np.uint8).reshape(shape)
    calls = {name: _load(Path(file), threads) for name, file in runs}
    print(json.dumps({name: asdict(_measure(call, images)) for name, call in calls.items()}))


if __name__ == "__main__":
    _main(**json.loads(sys.argv[1]))
