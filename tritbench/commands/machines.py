"""`tritbench machines`: the timings of this run beside those of other machines."""

from pathlib import Path

from tritbench.report.machines import keep

BENCHMARKS = Path("benchmarks")


def run() -> None:
    """Write benchmarks/machines.csv, and say what it holds.

    Raises:
        TritbenchError: as `keep`.
    """
    own, others = keep(BENCHMARKS)
    print(f"machines: {BENCHMARKS / 'machines.csv'}: {own} rows of this run, {others} of others")
