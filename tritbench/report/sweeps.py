"""What a sweep found, from its CSV file: the Pareto front, curves over thresholds, a table."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import altair as alt

from tritbench.errors import TritbenchError
from tritbench.report.charts import Rows
from tritbench.report.figures import svg, threshold_curves
from tritbench.report.rows import csv_lines, read_text
from tritbench.report.summary import MODE_NAMES
from tritbench.report.text import markdown_table, percent, seconds, size, times

SweepRow = dict[str, Any]  # a cell is text, a number, or None where there is nothing

THRESHOLD = "quantize.threshold"
NUMBERS = (
    "accuracy",
    "loss",
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "bytes",
    "file_bytes",
    "bits_per_weight",
    "zeros",
    "front",
    "latency_s",
    "speedup",
)
COLUMNS = ("model", "mode", "method", *NUMBERS, "dataset", "seed", "machine")


@dataclass(frozen=True)
class SweepResult:
    """A sweep's CSV file: its rows, and the parameters that vary between them."""

    rows: list[SweepRow]
    varied: list[str]


def read_sweep_csv(path: Path) -> SweepResult:
    """Read what `sweep_csv` wrote.

    Raises:
        TritbenchError: naming the file, where it is something else.
    """
    rows: list[SweepRow] = []
    for where, values in csv_lines(read_text(path), str(path), ["point", *COLUMNS]):
        row: SweepRow = {key: value or None for key, value in values.items()}
        try:
            row |= {key: float(values[key]) for key in NUMBERS if row[key] is not None}
        except ValueError as error:
            raise TritbenchError(f"{where}: {error}") from None
        rows.append(row)
    varied = [key for key in (rows[0] if rows else ()) if key not in ("point", *COLUMNS)]
    return SweepResult(rows, varied)


def front(rows: Iterable[SweepRow]) -> list[SweepRow]:
    """The rows than which no other has both fewer bytes and more validation accuracy.

    The test split is shown but does not choose. From few bytes to many.

    >>> rows = [dict(bytes=b, accuracy=a) for b, a in ((9, 0.9), (5, 0.8), (7, 0.8), (6, 0.7))]
    >>> [row["bytes"] for row in front(rows)]
    [5, 9]
    """
    best: list[SweepRow] = []
    for row in sorted(rows, key=lambda row: (row["bytes"], -row["accuracy"])):
        if not best or row["accuracy"] > best[-1]["accuracy"]:
            best.append(row)
    return best


def sweep_csv(rows: Sequence[SweepRow], varied: Sequence[str]) -> str:
    """A line for each point, model and mode; the varied parameters stand after the point."""
    text = io.StringIO()
    columns = ["point", *(key for key in varied if key not in COLUMNS), *COLUMNS]
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def sweep_figures(name: str, rows: Sequence[SweepRow], varied: Sequence[str]) -> dict[str, str]:
    """File name to SVG: `NAME-front.svg`, and `NAME-curves.svg` where thresholds vary."""
    figures = {f"{name}-front.svg": svg(_front_chart(name, rows))}
    if THRESHOLD in varied:
        title = "Validation accuracy against threshold (dashed: FP32)"
        figures[f"{name}-curves.svg"] = threshold_curves(_curve_rows(rows), title)
    return figures


def label(row: SweepRow) -> str:
    """What made a row's network, in words."""
    mode = MODE_NAMES[row["mode"]]
    return f"{mode} {row['method']}" if row["method"] else mode


def _front_chart(name: str, rows: Sequence[SweepRow]) -> Any:
    keys = ("model", "bytes", "test_accuracy")
    values = [{key: row[key] for key in keys} | {"by": label(row)} for row in rows]
    best = [values[number] for number, row in enumerate(rows) if row["front"]]
    axis = alt.Axis(format="~s", tickCount=6)
    x = alt.X("bytes:Q", title="stored weights (bytes, logarithmic)", axis=axis)
    x = x.scale(type="log", padding=20)
    y = alt.Y("test_accuracy:Q", title="test accuracy", axis=alt.Axis(format=".1%"))
    y = y.scale(zero=False, padding=14)
    line = alt.Chart(alt.InlineData(values=best), width=560, height=320)
    points = alt.Chart(alt.InlineData(values=values)).mark_point(filled=True, size=45)
    return alt.layer(
        line.mark_line(color="#999999", interpolate="step-after").encode(x=x, y=y),
        points.encode(
            x=x,
            y=y,
            color=alt.Color("by:N", title="method"),
            shape=alt.Shape("model:N", title="model"),
        ),
    ).properties(title=f"Accuracy and bytes, with the Pareto front: {name}")


def _curve_rows(rows: Sequence[SweepRow]) -> Rows:
    """Of `threshold_curves`; seeds and other parameters that vary too are averaged."""
    found: dict[tuple[str, str, float | None], list[float]] = defaultdict(list)
    for row in rows:
        if row["mode"] == "fp32":
            found[row["model"], "FP32", None].append(row["accuracy"])
        elif row[THRESHOLD] not in (None, "auto"):
            found[row["model"], label(row), float(row[THRESHOLD])].append(row["accuracy"])
    return [
        {"model": model, "method": method, "threshold": threshold, "accuracy": mean(accuracies)}
        for (model, method, threshold), accuracies in found.items()
    ]


def sweep_table(
    rows: Sequence[SweepRow], varied: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the Pareto front, unescaped."""
    timed = any(row["latency_s"] for row in rows)
    shown = [key for key in varied if key not in ("models", "ptq.method", "qat.method")]
    header = ["model", "mode", *shown, "validation accuracy", "test accuracy", "bytes", "zeros"]
    header += ["latency, batch 1", "speed-up"] if timed else []
    cells = []
    for row in (row for row in rows if row["front"]):
        line = [str(row["model"]), label(row), *(str(row[key] or "–") for key in shown)]
        line += [percent(row["accuracy"]), percent(row["test_accuracy"]), size(int(row["bytes"]))]
        line += ["–" if row["zeros"] is None else percent(row["zeros"])]
        line += [seconds(row["latency_s"]), times(row["speedup"])] if timed else []
        cells.append(line)
    return header, cells


def sweep_markdown(rows: Sequence[SweepRow], varied: Sequence[str]) -> str:
    """The Pareto front as a table."""
    return "\n".join(markdown_table(*sweep_table(rows, varied))) + "\n"
