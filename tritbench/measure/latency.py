"""Latencies that can be compared: one process, interleaved, in random order, after warm-up."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from timeit import Timer

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_SECONDS = 500e-6  # long enough that reading the clock does not count
WARM_UP_BLOCKS = 30  # at most
MAX_SPREAD = 0.25  # of the 95th percentile over the median; beyond it the machine was disturbed


@dataclass(frozen=True)
class Latency:
    """Seconds a call, over `runs` timed blocks of `calls` calls each.

    Attributes:
        blocks: seconds a call [runs]; block n was taken in round n, with the other models' block n.
    """

    median_s: float
    iqr_s: float
    p95_s: float
    p99_s: float
    runs: int
    calls: int
    blocks: NDArray[np.float64] = field(repr=False, compare=False)

    @property
    def disturbed(self) -> bool:
        """Whether the blocks spread further than they do on a quiet machine."""
        return self.p95_s > (1 + MAX_SPREAD) * self.median_s


def interleaved(
    models: Mapping[str, Callable[[Tensor], object]],
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
        name: Timer("model(images)", globals={"model": model, "images": images})
        for name, model in models.items()
    }
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            calls = {name: _warm_up(timer) for name, timer in timers.items()}
            order = np.random.default_rng(seed)
            seconds: dict[str, list[float]] = {name: [] for name in models}
            run_time = dict.fromkeys(models, 0.0)
            runs = 0
            while runs < min_runs or min(run_time.values()) < min_run_time:
                runs += 1
                for name in order.permutation(list(models)):
                    timers[name].timeit(1)  # what ran before has filled the caches
                    taken = timers[name].timeit(calls[name])
                    seconds[name].append(taken / calls[name])
                    run_time[name] += taken
    finally:
        torch.set_num_threads(before)
    return {name: _summary(taken, calls[name]) for name, taken in seconds.items()}


def timer_overhead() -> dict[str, float]:
    """What timing itself costs, in seconds; latencies contain it.

    `call_s` is the loop and the call of a function that does nothing, for each call timed;
    `block_s` reading the clock, for each block; `resolution_s` the clock's.
    """
    nothing = Timer("model(images)", globals={"model": lambda _: None, "images": None})
    calls = 10_000
    return {
        "call_s": float(np.median([nothing.timeit(calls) for _ in range(20)])) / calls,
        "block_s": float(np.median([nothing.timeit(0) for _ in range(1000)])),
        "resolution_s": time.get_clock_info("perf_counter").resolution,
    }


def _warm_up(timer: Timer) -> int:
    """Run until two blocks in a row agree within 10%; how many calls make a block."""
    calls, before = 1, float("inf")
    for _ in range(WARM_UP_BLOCKS):
        taken = timer.timeit(calls) / calls
        if calls * taken < BLOCK_SECONDS:
            calls = max(calls + 1, int(BLOCK_SECONDS / max(taken, 1e-9)))
        elif abs(taken - before) < 0.1 * before:
            break
        before = taken
    return calls


def _summary(taken: list[float], calls: int) -> Latency:
    blocks = np.array(taken)
    low, median, high, p95, p99 = (float(q) for q in np.percentile(blocks, [25, 50, 75, 95, 99]))
    return Latency(median, high - low, p95, p99, len(blocks), calls, blocks)
