"""Call the native engine millions of times on random networks and inputs; memory must not grow.

    python scripts/soak.py [--calls 10000000]

Every result is compared with the first for the same input, bit for bit.
"""

import argparse
import dataclasses
import time
from itertools import pairwise
from typing import Any

import numpy as np

from tritbench import runtime
from tritbench.errors import TritbenchError, reported
from tritbench.packing import Network, Normalization
from tritbench.packing.graph_file import packed_graph
from tritbench.packing.weights import TernaryArray
from tritbench.runtime.fallback import MODES

ROUND = 5000  # calls of one set of networks
ALLOWED = 8 << 20  # bytes that the process may grow by after the first tenth


def main() -> None:
    """Run the calls and compare the process's size at a tenth of them with that at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    random = np.random.default_rng(flags.seed)
    isas = runtime.available_isas()
    start, before = time.perf_counter(), 0
    for done in range(0, flags.calls, ROUND):
        if done >= flags.calls // 10 and not before:
            before = resident_bytes()
        soak(random, isas[int(random.integers(len(isas)))])
    growth = resident_bytes() - before
    seconds = time.perf_counter() - start
    print(f"soak: {flags.calls} calls in {seconds:.0f} s, grown by {growth} bytes")
    if growth > ALLOWED:
        raise TritbenchError(f"memory grew by {growth} bytes, expected at most {ALLOWED}")


def soak(random: np.random.Generator, isa: str) -> None:
    """One random network, a few inputs, `ROUND` calls in random order."""
    shape = (1, int(random.integers(1, 9)), int(random.integers(1, 9)))
    widths = [shape[1] * shape[2], *random.integers(1, 40, 2).tolist(), int(random.integers(1, 12))]
    nodes: list[list[Any]] = [["reshape", "x", {"shape": [-1, widths[0]]}]]
    weights, biases = {}, {}
    for taken, given in pairwise(widths):
        names = f"{len(nodes)}.weight", f"{len(nodes)}.bias"
        weights[names[0]] = dense(random, taken, given)
        biases[names[1]] = random.normal(0, 1, given).astype(np.float32)
        nodes += [["linear", len(nodes) - 1, *names], ["relu", len(nodes)]]
    content = {"inputs": {"x": [-1, *shape]}, "nodes": nodes[:-1]}
    packed = packed_graph(content, weights, biases)
    ranges = {str(number): (0.0, 3.0) for number in range(2, len(nodes) - 1, 2)}
    packed = dataclasses.replace(packed, ranges=ranges)
    classes = [str(index) for index in range(widths[-1])]
    network = Network(packed, Normalization((0.3,), (0.4,)), classes, "", {}, {})
    mode = MODES[int(random.integers(len(MODES)))]
    model = runtime.from_packed(network, 1, isa, mode)  # type: ignore[arg-type]
    inputs = []
    for count in random.integers(1, 6, 4).tolist():
        pixels = random.integers(0, 256, (count, *shape), np.uint8)
        inputs += [pixels, pixels.astype(np.float32)]
    expected = [np.asarray(model(x)) for x in inputs]
    for which in random.integers(len(inputs), size=ROUND).tolist():
        if np.asarray(model(inputs[which])).tobytes() != expected[which].tobytes():
            raise TritbenchError(f"{isa}, {mode}: another result for the same input")


def dense(random: np.random.Generator, inputs: int, outputs: int) -> TernaryArray:
    """Random weights of a layer."""
    size = int(random.integers(1, inputs + 1))
    trits = random.integers(-1, 2, (outputs, inputs), np.int8)
    scale = random.normal(0, 1, (outputs, -(-inputs // size))).astype(np.float32)
    return TernaryArray(trits, scale, size, (outputs, inputs))


def resident_bytes() -> int:
    """What the process holds in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


if __name__ == "__main__":
    with reported("soak"):
        main()
