"""What sweeps found: every point, and the Pareto front as a table."""

from collections.abc import Mapping

from tritbench.report import charts
from tritbench.report.blocks import Chart, Panel, Section, Table
from tritbench.report.chart_data import Rows, mode_names
from tritbench.report.summary import MODE_NAMES, percent, size
from tritbench.report.sweeps import SweepResult, label, sweep_table


def sweeps_section(sweeps: Mapping[str, SweepResult]) -> Section | None:
    """Accuracy against bytes of each sweep's points, by the sweep's name."""
    if not sweeps:
        return None
    blocks = [_chart(name, sweep) for name, sweep in sweeps.items()]
    lead = (
        "Many settings, each measured once. The front is chosen by validation accuracy and bytes; "
        "the test split is only shown."
    )
    return Section("sweeps", "Sweeps", lead, blocks)


def _chart(name: str, sweep: SweepResult) -> Chart:
    rows: Rows = [
        {
            "model": row["model"],
            "mode": MODE_NAMES[row["mode"]],
            "label": ", ".join(
                [row["model"], label(row), *(f"{k} {row[k]}" for k in sweep.varied if row[k])]
            ),
            "bytes": row["bytes"],
            "cost": size(int(row["bytes"])),
            "accuracy": row["test_accuracy"],
            "low": row["test_accuracy"],  # many points lie close together: no whiskers
            "high": row["test_accuracy"],
            "text": percent(row["test_accuracy"]),
            "front": bool(row["front"]),
            "named": row["mode"] == "fp32",
        }
        for row in sweep.rows
    ]
    modes = mode_names([row["mode"] for row in sweep.rows])
    best = [row for row in rows if row["front"]]
    text = f"Test accuracy against stored weights of {len(rows)} networks."
    panel = Panel("", rows, text, f"On the front: {len(best)} of {len(rows)}.")
    header, cells = sweep_table(sweep.rows, sweep.varied)
    spec = charts.for_page(charts.trade_off("bytes", "stored weights (logarithmic)", modes), 340)
    table = Table(f"The Pareto front of {name}", header, cells)
    return Chart(f"{name}: accuracy against bytes", spec, [panel], [table], modes=modes)
