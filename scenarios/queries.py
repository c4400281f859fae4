"""MLPerf Inference's scenarios in small (arXiv 1911.02549): how queries come decides their latency.

`clock` gives seconds, and is there so that what is timed can be tested without time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Call = Callable[[Tensor], Tensor]
Clock = Callable[[], float]

LEAST_QUERIES = 1024  # MLPerf's, of a single stream
WARM_UP = 20  # calls that do not count


@dataclass(frozen=True)
class Taken:
    """What a scenario measured.

    Attributes:
        latencies: seconds of each query, from when it came to when it was answered.
        seconds: of all.
        images: answered in them.
        logits: of the first images, each once at most, [n, classes].
    """

    latencies: list[float]
    seconds: float
    images: int
    logits: Tensor

    def percentile(self, percent: float) -> float:
        """Of the queries, the time that so many of a hundred stayed within."""
        return float(np.percentile(self.latencies, percent, method="higher"))


def single_stream(
    call: Call, images: Tensor, least: float, clock: Clock = time.perf_counter
) -> Taken:
    """One image after another, each asked for when the one before is answered.

    Args:
        call: uint8 images [n, ...] to logits.
        images: asked for in turn, from the first again after the last.
        least: seconds that it goes on for, and for LEAST_QUERIES queries.
    """
    _warm_up(call, images[:1])
    singles = images.split(1)
    latencies: list[float] = []
    logits: list[Tensor] = []
    start = now = clock()
    while now - start < least or len(latencies) < LEAST_QUERIES:
        image = singles[len(latencies) % len(singles)]
        before = clock()
        answer = call(image)
        now = clock()
        latencies.append(now - before)
        if len(logits) < len(images):
            logits.append(answer)
    return Taken(latencies, now - start, len(latencies), torch.cat(logits))


def offline(
    call: Call, images: Tensor, batch: int, least: float, clock: Clock = time.perf_counter
) -> Taken:
    """All images at hand: batch after batch, as many as there are in `least` seconds, and at least
    all of them once."""
    batches = images.split(batch)
    _warm_up(call, batches[0])
    latencies: list[float] = []
    logits: list[Tensor] = []
    answered = 0
    start = now = clock()
    while now - start < least or len(logits) < len(batches):
        asked = batches[len(latencies) % len(batches)]
        before = clock()
        answer = call(asked)
        now = clock()
        latencies.append(now - before)
        answered += len(asked)
        if len(logits) < len(batches):
            logits.append(answer)
    return Taken(latencies, now - start, answered, torch.cat(logits))


def server(
    call: Call,
    images: Tensor,
    rate: float,
    least: float,
    seed: int,
    clock: Clock = time.perf_counter,
) -> Taken:
    """Images that come at random, `rate` a second on average (a Poisson process), answered in turn.

    One that comes while another is worked on waits, and its waiting counts.
    """
    _warm_up(call, images[:1])
    singles = images.split(1)
    count = max(LEAST_QUERIES, round(rate * least))
    due = np.random.default_rng(seed).exponential(1 / rate, count).cumsum().tolist()
    latencies: list[float] = []
    logits: list[Tensor] = []
    start = clock()
    for number, arrival in enumerate(due):
        image = singles[number % len(singles)]
        while clock() - start < arrival:
            pass  # a sleep would end later than many a query takes
        answer = call(image)
        latencies.append(clock() - start - arrival)
        if len(logits) < len(images):
            logits.append(answer)
    return Taken(latencies, clock() - start, count, torch.cat(logits))


def _warm_up(call: Call, images: Tensor) -> None:
    for _ in range(WARM_UP):
        call(images)
