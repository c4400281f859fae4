"""The same networks on several machines: benchmarks/machines.csv, kept from run to run."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from tritbench.files import write_atomic
from tritbench.report.rows import (
    Above,
    Mode,
    Peer,
    Positive,
    Text,
    read_of_run,
    read_rows,
    read_text,
)
from tritbench.report.runs import Machine, Run, parse_runs, read_machine
from tritbench.report.summary import MODE_NAMES, fastest_fp32
from tritbench.report.text import NOTHING, markdown_table, times


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One model in one mode at one batch size on one machine.

    `speedup` is to FP32 as one deploys it, in PyTorch with normalizations folded, with the ends of
    its 95% interval; `fastest` the fastest FP32 runtime there, `fastest_speedup` the ratio to it.
    """

    cpu: Text
    isa: Text
    machine: Text
    dataset: Text
    model: Text
    mode: Mode
    batch_size: Positive
    threads: Positive
    latency_s: Above
    speedup: Above
    speedup_low: Above
    speedup_high: Above
    fastest: str = ""
    fastest_speedup: Above | None = None
    git_rev: Text
    timestamp: Text


def keep(benchmarks: Path) -> tuple[int, int]:
    """Put the timings of a run into machines.csv.

    They take the place of those of the same processor and instruction set.

    Args:
        benchmarks: the folder with the run's files.

    Returns:
        The rows of this machine, and those of others.

    Raises:
        TritbenchError: where a file of the run or machines.csv is missing or wrong.
    """
    source, path = benchmarks / "quantization_runs.csv", benchmarks / "machines.csv"
    runs = parse_runs(read_text(source), str(source))
    models = list(dict.fromkeys(run.model for run in runs))
    machine, _ = read_machine(benchmarks / "latency.json")
    rows = timings(
        runs, read_of_run(benchmarks / "peers.csv", Peer, models, runs[0].run_id), machine
    )
    here = (machine.cpu, machine.isa)
    others = read_rows(path, Timing) if path.exists() else []
    others = [row for row in others if (row.cpu, row.isa) != here]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [each.name for each in fields(Timing)]
    writer.writerow(names)
    ordered = sorted([*others, *rows], key=lambda row: (row.isa, row.cpu))
    writer.writerows([getattr(row, name) for name in names] for row in ordered)
    write_atomic(path, text.getvalue())
    return len(rows), len(others)


def timings(runs: Sequence[Run], peers: Sequence[Peer], machine: Machine) -> list[Timing]:
    """The ternary rows of a run that are timed."""
    found = []
    for run in runs:
        if run.mode == "fp32" or run.latency_s is None or run.speedup is None:
            continue
        fastest = fastest_fp32(run, runs, peers)
        found.append(
            Timing(
                cpu=machine.cpu,
                isa=machine.isa,
                machine=run.machine,
                dataset=run.dataset,
                model=run.model,
                mode=run.mode,
                batch_size=run.batch_size,
                threads=run.threads,
                latency_s=run.latency_s,
                speedup=run.speedup,
                speedup_low=run.speedup_low or run.speedup,
                speedup_high=run.speedup_high or run.speedup,
                fastest=fastest[0] if fastest else "",
                fastest_speedup=round(fastest[1], 3) if fastest else None,
                git_rev=run.git_rev,
                timestamp=run.timestamp,
            )
        )
    return found


def table(path: Path) -> str:
    """Markdown: a row for each machine, model, mode and batch size, and what machines these are."""
    rows = read_rows(path, Timing)
    header = ["instructions", "model", "mode", "batch", "µs"]
    header += ["to FP32 as deployed", "to the fastest FP32", "which is"]
    lines = markdown_table(header, [_cells(row) for row in rows])
    about = dict.fromkeys(
        f"{row.isa}: {row.threads} thread{'s' if row.threads > 1 else ''} of {row.cpu}, "
        f"{row.timestamp[:10]}, revision {row.git_rev}"
        for row in rows
    )
    return "\n".join([*lines, "", f"{'; '.join(about)}."])


def _cells(row: Timing) -> list[str]:
    interval = f"[{row.speedup_low:.3g}, {row.speedup_high:.3g}]"
    return [
        row.isa,
        row.model,
        MODE_NAMES[row.mode],
        str(row.batch_size),
        f"{1e6 * row.latency_s:.3g}" if row.latency_s < 1e-3 else f"{1e6 * row.latency_s:,.0f}",
        f"{times(row.speedup)} {interval}",
        times(row.fastest_speedup) if row.fastest_speedup else NOTHING,
        row.fastest or NOTHING,
    ]
