"""Latencies that can be compared: one process, interleaved, in random order, after warm-up."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.benchmark import Timer

BLOCK_SECONDS = 500e-6  # long enough that reading the clock does not count
WARM_UP_BLOCKS = 30  # at most


@dataclass(frozen=True)
class Latency:
    """Seconds a call, over `runs` timed blocks of `calls` calls each."""

    median_s: float
    iqr_s: float
    p95_s: float
    runs: int
    calls: int


def interleaved(
    models: Mapping[str, Callable[[Tensor], Tensor]],
    images: Tensor,
    *,
    threads: int,
    min_run_time: float,
    min_runs: int,
    seed: int = 0,
) -> dict[str, Latency]:
    """Time `model(images)` of several models, so that what disturbs one disturbs all.

    Every round times one block of each model, in an order drawn anew, until each has run for
    `min_run_time` seconds in at least `min_runs` blocks.

    Args:
        models: by name.
        images: one batch.
        threads: of PyTorch's operators.
        min_run_time: seconds.
        min_runs: blocks.
        seed: of the order.
    """
    timers = {
        name: Timer(
            "model(images)",
            globals={"model": model, "images": images},
            num_threads=threads,
            description=name,
        )
        for name, model in models.items()
    }
    with torch.inference_mode():
        calls = {name: _warm_up(timer) for name, timer in timers.items()}
        order = np.random.default_rng(seed)
        seconds: dict[str, list[float]] = {name: [] for name in models}
        run_time = dict.fromkeys(models, 0.0)
        runs = 0
        while runs < min_runs or min(run_time.values()) < min_run_time:
            runs += 1
            for name in order.permutation(list(models)):
                taken = timers[name].timeit(calls[name]).median
                seconds[name].append(taken)
                run_time[name] += taken * calls[name]
    return {name: _summary(taken, calls[name]) for name, taken in seconds.items()}


def _warm_up(timer: Timer) -> int:
    """Run until two blocks in a row agree within 10%; how many calls make a block."""
    calls, before = 1, float("inf")
    for _ in range(WARM_UP_BLOCKS):
        taken = timer.timeit(calls).median
        if calls * taken < BLOCK_SECONDS:
            calls = max(calls + 1, int(BLOCK_SECONDS / max(taken, 1e-9)))
        elif abs(taken - before) < 0.1 * before:
            break
        before = taken
    return calls


def _summary(taken: list[float], calls: int) -> Latency:
    low, median, high, p95 = np.percentile(taken, [25, 50, 75, 95])
    return Latency(float(median), float(high - low), float(p95), len(taken), calls)
