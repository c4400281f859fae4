"""Time the native engine beside what else runs the networks: benchmarks/{kernels,networks}.csv.

    python scripts/kernels.py [--min-run-time SECONDS] [--min-runs N] [CASE …]

One thread, one run, interleaved medians. They take the place of the same instruction set's and
case's rows of before; other rows stay. PyTorch is always there; ONNX Runtime,
OpenVINO and ggml are where `pip install -e '.[peers]'` put them.
"""

import argparse
import csv
import io
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tritbench.devices import use_device
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.measure.kernels import COLUMNS, NAMES, Case, cases, measure
from tritbench.measure.machine import fingerprint
from tritbench.measure.networks import NETWORKS, network_cases
from tritbench.measure.rows import Row


def main() -> None:
    """Measure every case, print it and write them all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--min-run-time", type=float, default=0.5, help="seconds for each engine")
    parser.add_argument("--min-runs", type=int, default=20, help="timed blocks for each engine")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/kernels.csv"))
    parser.add_argument("--networks", type=Path, default=Path("benchmarks/networks.csv"))
    known = ", ".join((*NAMES, *NETWORKS))
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {known}")
    flags = parser.parse_args()
    unknown = sorted(set(flags.cases) - {*NAMES, *NETWORKS})
    if unknown:
        parser.error(f"{unknown[0]!r}: expected one of {known}")
    use_device("cpu", 1)
    for output, names, make in (
        (flags.output, NAMES, cases),
        (flags.networks, tuple(NETWORKS), network_cases),
    ):
        chosen = [name for name in names if name in flags.cases or not flags.cases]
        if chosen:
            write(output, make(chosen), flags.min_run_time, flags.min_runs)


def write(output: Path, measured_cases: Iterable[Case], min_run_time: float, min_runs: int) -> None:
    """Measure cases into a CSV file."""
    about: Row = {
        "machine": fingerprint()["id"],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    rows: list[Row] = []
    reasons: dict[str, list[str]] = {}  # by reason and peer, the cases
    for case in measured_cases:
        measured, unavailable = measure(case, min_run_time, min_runs)
        for name, why in unavailable.items():
            reasons.setdefault(f"{name}: {why}", []).append(case.name)
        for row in measured:
            rows.append({**row, **about})
            print(
                f"{row['case']:>10}, batch {row['batch_size']:>3}: {row['engine']:<20}"
                f"{1e6 * row['latency_s']:>10.2f} µs {row['native_speedup']:>8.2f}×"
                + (f"   {row['reached']:.0%} of the limit" if row["reached"] else "")
            )
    for reason, names in reasons.items():
        print(f"no {reason} ({', '.join(dict.fromkeys(names))})")
    found: list[dict[str, Any]] = [
        {key: _rounded(value) for key, value in row.items()} for row in rows
    ]
    kept = others(output, {(row["isa"], row["case"]) for row in found})
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept + found)
    write_atomic(output, text.getvalue())
    print(f"{output}: {len(found)} rows, and {len(kept)} from before")


def others(output: Path, measured: Collection[tuple[str, str]]) -> list[dict[str, Any]]:
    """The rows of a file that are of other instruction sets or cases than those measured now."""
    if not output.exists():
        return []
    with output.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if (row["isa"], row["case"]) not in measured]


def _rounded(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


if __name__ == "__main__":
    with reported("kernels"):
        main()
