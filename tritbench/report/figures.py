"""The figures of the report as SVG files; the same results give the same bytes."""

import re
from typing import Any

import altair as alt
import vl_convert

from tritbench.report import chart_data, charts
from tritbench.report.runs import Results
from tritbench.report.summary import MODE_NAMES, by_model_and_mode

# Of vl-convert's Vega-Lite versions the one that this Altair writes.
VEGALITE = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
ROWS = alt.NamedData(name="rows")  # given last: Altair would look at every cell
CONFIG = {
    "background": "white",
    "font": "sans-serif",
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "gridColor": "#e4e4e4"},
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "symbolSize": 90},
    "header": {"labelFontSize": 13, "labelFontWeight": "bold", "titleFontSize": 12},
    "title": {"fontSize": 14, "anchor": "start"},
}

Drawing = tuple[Any, chart_data.Rows]  # an Altair chart and its rows


def figures(results: Results) -> dict[str, str]:
    """File name (without folder) to SVG text."""
    drawn = {
        "training_loss.svg": ("Loss while training", _training(results, "loss")),
        "training_accuracy.svg": ("Accuracy while training", _training(results, "accuracy")),
        "accuracy_bytes.svg": (
            "Test accuracy (95% interval) and stored weights; dashed: not beaten in both",
            _accuracy_bytes(results),
        ),
        "confusion.svg": ("Predicted classes of the test images", _confusion(results)),
    }
    if chart_data.speed(results.runs):
        machine = results.runs[0].machine
        drawn["speedup.svg"] = (f"Speed-up over FP32, {machine}", _speedup(results))
    dataset = results.runs[0].dataset
    return {
        name: svg(chart.properties(title=f"{title}: {dataset}"), rows)
        for name, (title, (chart, rows)) in drawn.items()
    }


def svg(chart: Any, rows: chart_data.Rows | None = None) -> str:
    """An Altair chart as SVG in the project's style; `rows` are its data of the name `rows`."""
    # Altair's validation takes longer than all the rest; Vega-Lite reads the result anyway.
    specification = chart.configure(**CONFIG).to_dict(validate=False)
    if rows is not None:
        specification["datasets"] = {ROWS.name: rows}
    # No addresses: a figure holds only the numbers given to it.
    text = vl_convert.vegalite_to_svg(specification, vl_version=VEGALITE, allowed_base_urls=[])
    return _renumbered(str(text))


def threshold_curves(rows: chart_data.Rows, title: str) -> str:
    """Validation accuracy against threshold as SVG, a panel for each model.

    Args:
        rows: model, method, threshold (None for FP32), accuracy.
        title: of the whole.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    chart = (
        charts.sweep()
        .properties(width=250, height=240)
        .facet(alt.Facet("model:N", sort=models, title=None), columns=3, data=ROWS)
        .resolve_scale(y="independent")
        .properties(title=title)
    )
    return svg(chart, rows)


def _renumbered(svg: str) -> str:
    """Vega counts its ids on from figure to figure; count anew, so that bytes repeat."""
    names = {
        name: f"id{n}" for n, name in enumerate(dict.fromkeys(re.findall(r' id="(.*?)"', svg)))
    }
    svg = re.sub(r' id="(.*?)"', lambda match: f' id="{names[match[1]]}"', svg)
    return re.sub(r"url\(#(.*?)\)", lambda match: f"url(#{names[match[1]]})", svg)


def _training(results: Results, metric: str) -> Drawing:
    modes = chart_data.mode_names([epoch.mode for epoch in results.epochs])
    most = max(epoch.epoch for epoch in results.epochs)
    chart = (
        charts.curve(metric, modes, most, legend=True)
        .properties(width=210, height=210)
        .facet(
            alt.Facet("model:N", sort=results.models, title=None),
            columns=3,
            data=ROWS,
        )
        # Models need not train for equally many epochs.
        .resolve_scale(x="independent")
    )
    return chart, chart_data.training(results.epochs, metric)


def _accuracy_bytes(results: Results) -> Drawing:
    runs = [group[0] for group in by_model_and_mode(results.runs)]
    modes = chart_data.mode_names([run.mode for run in runs])
    chart = charts.trade_off("bytes", "stored weights (logarithmic)", modes, legend=True)
    chart = chart.properties(width=560, height=320, data=ROWS)
    return chart, chart_data.trade_off("bytes", runs)


def _speedup(results: Results) -> Drawing:
    rows = chart_data.speed(results.runs)
    known = all(row["low"] is not None and row["high"] is not None for row in rows)
    modes = chart_data.mode_names([run.mode for run in results.runs if run.mode != "fp32"])
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    width = max(120, 100 * len(results.models))
    chart = (
        charts.speed(results.models, modes, known, legend=True)
        .properties(width=width, height=240)
        .facet(alt.Facet("batch:N", sort=batches, title=None), columns=2, data=ROWS)
    )
    return chart, rows


def _confusion(results: Results) -> Drawing:
    classes = list(results.confusions[0].classes)
    side = alt.Step(20 if len(classes) <= 12 else 8)
    rows = [
        {"model": matrix.model, "mode": MODE_NAMES[matrix.mode]} | row
        for matrix in results.confusions
        for row in chart_data.confusion(matrix)
    ]
    chart = (
        charts.confusion(classes, legend=True)
        .properties(width=side, height=side)
        .facet(
            row=alt.Row("model:N", sort=results.models, title=None),
            column=alt.Column("mode:N", sort=list(MODE_NAMES.values()), title=None),
            data=ROWS,
        )
    )
    return chart, rows
