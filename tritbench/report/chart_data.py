"""The rows of each chart: what is measured, as numbers to draw and as text to read."""

from collections.abc import Sequence
from typing import Any

from tritbench.report.extras import Peer
from tritbench.report.runs import Confusion, Epoch, Run
from tritbench.report.summary import (
    MODE_NAMES,
    percent,
    seconds,
    size,
    speedup,
    times,
)
from tritbench.report.table import MODES

Rows = list[dict[str, Any]]


def training(epochs: Sequence[Epoch], metric: str) -> Rows:
    """Of `curve`: two rows an epoch, for training and validation."""
    return [
        {
            "model": epoch.model,
            "mode": MODE_NAMES[epoch.mode],
            "split": split,
            "epoch": epoch.epoch,
            "value": value,
            "text": percent(value) if metric == "accuracy" else f"{value:.4f}",
        }
        for epoch in epochs
        for split, column in (("validation", "val"), ("training", "train"))
        for value in [getattr(epoch, f"{column}_{metric}")]
    ]


def trade_off(x: str, runs: Sequence[Run], peers: Sequence[Peer] = ()) -> Rows:
    """Of `trade_off`: a row for each run with a value in `x`, `bytes` or `latency_s`.

    Peers that lie where FP32 does, as PyTorch's own row, are left out.
    """
    rows: Rows = []
    fp32 = [(run.model, getattr(run, x), run.test_accuracy) for run in runs if run.mode == "fp32"]
    others = [
        peer for peer in peers if (peer.model, getattr(peer, x), peer.test_accuracy) not in fp32
    ]
    everything: list[Run | Peer] = [*runs, *others]
    for run in everything:
        cost = getattr(run, x)
        if cost is None or run.test_accuracy is None:
            continue
        low, high = run.test_accuracy_low, run.test_accuracy_high
        mode = MODE_NAMES.get(run.mode, run.mode)
        name = run.method if run.mode == "peer" else mode
        rows.append(
            {
                "model": run.model,
                "mode": mode,
                "label": f"{run.model}, {name}",
                x: cost,
                "cost": size(cost) if x == "bytes" else seconds(cost),
                "accuracy": run.test_accuracy,
                "low": run.test_accuracy if low is None else low,
                "high": run.test_accuracy if high is None else high,
                "text": percent(run.test_accuracy) + between(low, high),
                "named": run.mode == "fp32",
            }
        )
    for row in rows:
        row["front"] = not any(_beats(other, row, x) for other in rows)
    best = _first_ternary(rows)
    for row in rows:
        row["named"] |= row["label"] in best
    return rows


def between(low: float | None, high: float | None) -> str:
    """An interval of shares, in percent, after its middle; nothing where it is not known."""
    return "" if low is None or high is None else f" [{100 * low:.2f}, {100 * high:.2f}]"


def _beats(other: dict[str, Any], row: dict[str, Any], x: str) -> bool:
    """Whether `other` is at least as good in both and better in one."""
    better = other["accuracy"] > row["accuracy"] or other[x] < row[x]
    return bool(better and other["accuracy"] >= row["accuracy"] and other[x] <= row[x])


def _first_ternary(rows: Rows) -> set[str]:
    """The most accurate ternary point of each model, which carries its name."""
    ternary = [row for row in rows if row["mode"] in ("PTQ", "QAT")]
    best = {row["model"]: row for row in sorted(ternary, key=lambda row: float(row["accuracy"]))}
    return {row["label"] for row in best.values()}


def speed(runs: Sequence[Run]) -> Rows:
    """Of `speed`: the ternary runs that were timed."""
    return [
        {
            "model": run.model,
            "mode": MODE_NAMES[run.mode],
            "batch": f"batch size {run.batch_size}",
            "speedup": run.speedup,
            "low": run.speedup_low,
            "high": run.speedup_high,
            "top": max(run.speedup, run.speedup_high or 0),
            "label": f"{'~' if run.disturbed else ''}{times(run.speedup)}",
            "text": speedup(run),
        }
        for run in runs
        if run.mode != "fp32" and run.speedup is not None
    ]


def confusion(matrix: Confusion) -> Rows:
    """Of `confusion`: a row for each pair of classes that occurs."""
    return [
        {"actual": actual, "predicted": predicted, "share": round(count / total, 4)}
        | {"text": f"{count} of {total}"}
        for actual, counts in zip(matrix.classes, matrix.counts, strict=True)
        for total in [sum(counts)]
        for predicted, count in zip(matrix.classes, counts, strict=True)
        if count
    ]


def mode_names(modes: Sequence[str]) -> list[str]:
    """The names of those of MODES that occur, in their order."""
    return [MODE_NAMES[mode] for mode in MODES if mode in modes]
