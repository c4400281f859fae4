"""Mutated .trit files against the reader: `python tests/fuzz_trit.py --count 1000000`.

Every file must be read or be refused with a TritbenchError, in bounded time and memory. The files
stay in memory; the same seed makes the same files.
"""

import argparse
import collections
import functools
import json
import resource
import time
from pathlib import Path

import numpy as np
from graph_networks import networks
from ternary_files import RGB, ternary_file

from tritbench.errors import TritbenchError
from tritbench.packing import read_trit

SLOW = 1.0  # seconds for one file that count as a hang
_EDGES = [0, 1, 2, 3, 127, 128, 242, 243, 255]
_NUMBERS = [b"0", b"-1", b"1", b"7", b"255", b"65536", b"16777216", b"4294967296", b"1e9", b"null"]
_NUMBERS += [b"9" * 400]
_TOKENS = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"NaN", b"true", b"\\u0000", b"[[[[", b"\xff"]


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Small good files of both versions, each codec among them, groups, float16 and int8."""
    folder = Path(__file__).parent / "fixtures/v1"
    first = ("mlp-2bit-groups", "cnn-entropy-tensor", "odd-t81", "odd-two-sided")
    made = networks()
    second = (
        ternary_file(*made["residual"], RGB, "channel", "base3", half=["conv.bias"]),
        ternary_file(*made["residual"], None, "group:5", "2bit", int8=["head.weight"]),
        ternary_file(*made["tokens"], None, "tensor", "entropy"),
        ternary_file(*made["moves"], None, "channel", "t81", sides=2),
    )
    return (*((folder / f"{name}.trit").read_bytes() for name in first), *second)


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """One to three small changes, most of them in the header, which then often stays valid JSON."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 4)):
        header = 8 + int.from_bytes(data[:8], "little")
        limit = len(changed) if random.random() < 0.3 else min(header, len(changed))
        at = int(random.integers(0, max(limit, 1)))
        length = int(random.integers(1, 9))
        match int(random.integers(0, 9)):
            case 0:
                changed[at : at + 1] = bytes([int(random.integers(0, 256))])
            case 1:
                changed[at : at + 1] = bytes([_EDGES[random.integers(len(_EDGES))]])
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = changed[at : at + length]
            case 4:
                changed[at : at + 1] = _TOKENS[random.integers(len(_TOKENS))]
            case 5:
                other = int(random.integers(0, max(len(changed), 1)))
                changed[at : at + length] = changed[other : other + length]
            case 6:
                changed = changed[:at] if random.random() < 0.2 else changed + bytes(length)
            case 7 | 8:
                # A number of the header by another.
                while at < len(changed) and not 48 <= changed[at] <= 57:
                    at += 1
                end = at
                while end < len(changed) and 48 <= changed[end] <= 57:
                    end += 1
                changed[at:end] = _NUMBERS[random.integers(len(_NUMBERS))]
    if random.random() < 0.8:
        # Keep the header's length true, or nearly all files would fail at the first check.
        grown = len(changed) - len(data)
        length = int.from_bytes(data[:8], "little") + (grown if random.random() < 0.9 else 0)
        changed[:8] = max(length, 0).to_bytes(8, "little")
    return bytes(changed)


def outcome(data: bytes) -> str:
    """`read` or `refused`; anything else is raised."""
    try:
        read_trit(data, "it")
    except TritbenchError as error:
        return "refused" if str(error).isprintable() else "unprintable"
    return "read"


def main() -> None:
    """Run and print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    random = np.random.default_rng(flags.seed)
    files = seeds()
    counts: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    start, slowest = time.perf_counter(), 0.0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(flags.count):
        data = mutate(files[number % len(files)], random)
        before = time.perf_counter()
        try:
            read_trit(data, "it")
            counts["read"] += 1
        except TritbenchError as error:
            counts["refused"] += 1
            reasons[str(error).split(": ")[2][:24]] += 1
        except BaseException as error:
            counts["crashed"] += 1
            print(f"file {number} of seed {flags.seed}: {type(error).__name__}: {error}")
        taken = time.perf_counter() - before
        slowest = max(slowest, taken)
        counts["hung"] += taken > SLOW
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    result = {
        **{key: counts[key] for key in ("read", "refused", "crashed", "hung")},
        "different_reasons": len(reasons),
        "seconds": round(time.perf_counter() - start),
        "slowest_ms": round(slowest * 1e3, 1),
        "memory_grown_mb": round(grown / 1024),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
