"""What the points measured, put together beside the sweep's file: CSV, table and figures."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path

from tritbench.files import write_atomic
from tritbench.measure.rows import rounded
from tritbench.report.documents import fill
from tritbench.report.sweeps import (
    COLUMNS,
    NUMBERS,
    SweepRow,
    front,
    sweep_csv,
    sweep_figures,
    sweep_markdown,
)
from tritbench.sweep.experiments import read_file
from tritbench.sweep.plan import Overrides, Point, Sweep

RUNS = Path("benchmarks/quantization_runs.csv")
DOCS = Path("docs/sweeps.md")


def varied_keys(sweep: Sweep) -> list[str]:
    """The parameters that differ between points, in the file's order."""
    settings = sweep.settings
    listed = [*settings.grid, *(key for point in settings.points for key in point)]
    return list(dict.fromkeys(listed))


def collect(points: Iterable[Point], start: str, varied: list[str]) -> list[SweepRow]:
    """A row for each point, model and ternary mode, and one for each FP32 network.

    Rows on the Pareto front have 1 in the column `front`.

    Args:
        points: those that are experiments.
        start: the commit that they start from.
        varied: parameters that get a column.
    """
    rows: dict[str, SweepRow] = {}
    for point in points:
        for found in csv.DictReader(io.StringIO(read_file(start, point.name, RUNS))):
            row: SweepRow = {key: found.get(key) or None for key in COLUMNS}
            row |= {key: None if row[key] is None else float(row[key]) for key in NUMBERS}
            for key in ("bytes", "file_bytes"):
                row[key] = int(row[key])
            row |= {"latency_s": None, "speedup": None, "machine": None}
            if row["mode"] == "fp32":  # points share it
                rows.setdefault(json.dumps(row), {"point": None, **dict.fromkeys(varied)} | row)
            else:
                values = {key: _cell(point.overrides, key) for key in varied}
                rows[f"{point.name} {row['model']} {row['mode']}"] = {
                    "point": point.name,
                    **values,
                    **row,
                }
    listed = sorted(rows.values(), key=lambda row: row["mode"] != "fp32")
    for row in front(listed):
        row["front"] = 1
    return listed


def _cell(overrides: Overrides, key: str) -> str | None:
    value = overrides.get(key)
    return value if value is None or isinstance(value, str) else json.dumps(value)


def write(sweep: Sweep, rows: list[SweepRow], varied: list[str]) -> list[Path]:
    """Write NAME.csv, NAME.md and the figures beside the sweep's file, and the table into docs.

    A Markdown file `docs/sweeps.md` gets the table where it shows figures of NAME.md.
    """
    folder = sweep.path.parent
    for row in rows:
        row |= {key: rounded(key, row[key]) for key in NUMBERS if key in ROUNDED}
    table = sweep_markdown(rows, varied)
    contents = {f"{sweep.name}.csv": sweep_csv(rows, varied), f"{sweep.name}.md": table}
    contents |= sweep_figures(sweep.name, rows, varied)
    for name, content in contents.items():
        write_atomic(folder / name, content)
    if DOCS.exists():
        fill(DOCS)
    return [folder / name for name in contents]


ROUNDED = ("bits_per_weight", "latency_s", "speedup")
