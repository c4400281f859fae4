"""Accuracy against bytes and latency, and the speed-up over FP32."""

from collections.abc import Sequence

from tritbench.report import chart_data, charts
from tritbench.report.blocks import Chart, Panel, Section, Table
from tritbench.report.chart_data import mode_names
from tritbench.report.runs import Results
from tritbench.report.summary import DISTURBED

# What a network costs: its name, and that of the axis.
COSTS = {
    "bytes": ("stored weights", "stored weights (logarithmic)"),
    "latency_s": ("latency", "latency of a batch (logarithmic)"),
}


def trade_off_section(results: Results) -> Section:
    """Accuracy against bytes, and against latency at each batch size."""
    timed = sorted({run.batch_size for run in results.runs if run.latency_s is not None})
    blocks = [_trade_off(results, "bytes", [results.runs[0].batch_size])]
    if timed:
        blocks.append(_trade_off(results, "latency_s", timed))
    lead = (
        "Up and to the left is better. The dashed line is the Pareto front: nothing is more "
        "accurate than the ringed points on it without being larger or slower."
    )
    return Section("trade-offs", "Trade-offs", lead, blocks)


def _trade_off(results: Results, x: str, batches: Sequence[int]) -> Chart:
    """One chart for bytes, and one for latency with a panel for each batch size."""
    cost, axis = COSTS[x]
    modes = mode_names([run.mode for run in results.runs]) + ["peer"] * bool(results.peers)
    panels, tables = [], []
    for batch in batches:
        runs = [run for run in results.runs if run.batch_size == batch]
        peers = [peer for peer in results.peers if peer.batch_size == batch]
        rows = chart_data.trade_off(x, runs, peers)
        front = [row for row in sorted(rows, key=lambda row: row[x]) if row["front"]]
        names = "; ".join(f"{row['label']} ({row['cost']})" for row in front)
        title = f"batch size {batch}" if x == "latency_s" else ""
        label = f"Test accuracy against {cost}, {len(rows)} networks."
        panels.append(Panel(title, rows, label, f"On the front: {names}."))
        header = ["network", "test accuracy [95% interval]", cost, "on the front"]
        cells = [[r["label"], r["text"], r["cost"], "yes" if r["front"] else "no"] for r in rows]
        caption = f"Test accuracy against {cost}" + (f", {title}" if len(batches) > 1 else "")
        tables.append(Table(caption, header, cells, names=1))
    spec = charts.for_page(charts.trade_off(x, axis, modes), 340)
    views = [0] if len(batches) > 1 else []
    return Chart(f"Accuracy against {cost}", spec, panels, tables, modes=modes, views=views)


def speed_section(results: Results) -> Section | None:
    """Speed-up over FP32, a panel for each batch size."""
    rows = chart_data.speed(results.runs)
    if not rows:
        return None
    known = all(row["low"] is not None and row["high"] is not None for row in rows)
    modes = mode_names([run.mode for run in results.runs if run.mode != "fp32"])
    panels = [
        Panel(batch, here, f"Speed-up over FP32 at {batch}: {_read(here)}.")
        for batch in dict.fromkeys(row["batch"] for row in rows)
        for here in [[row for row in rows if row["batch"] == batch]]
    ]
    table = Table(
        "Speed-up over FP32",
        ["model", "mode", "batch", "× as fast as FP32"],
        [[r["model"], r["mode"], r["batch"].split()[-1], r["text"]] for r in rows],
    )
    spec = charts.for_page(charts.speed(results.models, modes, known), 240)
    lead = (
        f"Ternary files run on {results.engine or 'an engine that is not recorded'}, FP32 on "
        "PyTorch, interleaved in one process."
    )
    if any(run.disturbed for run in results.runs):
        lead += f" ~: {DISTURBED}"
    chart = Chart("Speed-up over FP32", spec, panels, [table], modes=modes)
    return Section("speed", "Speed", lead, [chart])


def _read(rows: chart_data.Rows) -> str:
    return ", ".join(f"{row['model']} {row['mode']} {row['text']}" for row in rows)
