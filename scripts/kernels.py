"""Time the native engine beside PyTorch, ONNX Runtime and ggml and write benchmarks/kernels.csv.

    python scripts/kernels.py [--min-run-time SECONDS] [--output FILE]

One thread, one run, interleaved medians. `pip install -e '.[peers]'` brings ONNX Runtime and ggml.
"""

import argparse
import csv
import io
from datetime import UTC, datetime
from pathlib import Path

from tritbench import train
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.measure.kernels import COLUMNS, cases, measure
from tritbench.measure.machine import fingerprint
from tritbench.measure.rows import Row


def main() -> None:
    """Measure every case, print it and write them all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--min-run-time", type=float, default=0.5, help="seconds for each engine")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/kernels.csv"))
    flags = parser.parse_args()
    train.use_device("cpu", 1)
    about: Row = {
        "machine": fingerprint()["id"],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    rows: list[Row] = []
    for case in cases():
        for row in measure(case, flags.min_run_time, min_runs=20):
            rows.append({**row, **about})
            print(
                f"{row['case']:>10}, batch {row['batch_size']:>3}: {row['engine']:<20}"
                f"{1e6 * row['latency_s']:>10.2f} µs {row['native_speedup']:>8.2f}×"
                + (f"   {row['reached']:.0%} of the limit" if row["reached"] else "")
            )
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _rounded(value) for key, value in row.items()} for row in rows)
    write_atomic(flags.output, text.getvalue())
    print(f"{flags.output}: {len(rows)} rows")


def _rounded(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


if __name__ == "__main__":
    with reported("kernels"):
        main()
