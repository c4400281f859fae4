"""Drawings: the SVG files, Vega for the page's charts, the Mermaid diagram."""

import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import altair as alt
import vl_convert

from tritbench.report import charts
from tritbench.report.runs import Results, Run
from tritbench.report.summary import MODE_NAMES, by_model_and_mode
from tritbench.report.text import escape_markdown, percent, quoted, size, times

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

Drawing = tuple[Any, charts.Rows]  # an Altair chart and its rows


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
    if charts.speed_rows(results.runs):
        machine = results.runs[0].machine
        drawn["speedup.svg"] = (f"Speed-up over FP32, {machine}", _speedup(results))
    dataset = results.runs[0].dataset
    return {
        name: svg(chart.properties(title=f"{title}: {dataset}"), rows)
        for name, (title, (chart, rows)) in drawn.items()
    }


def svg(chart: Any, rows: charts.Rows | None = None) -> str:
    """An Altair chart as SVG in the project's style; `rows` are its data of the name `rows`."""
    # Altair's validation takes longer than all the rest; Vega-Lite reads the result anyway.
    specification = chart.configure(**CONFIG).to_dict(validate=False)
    if rows is not None:
        specification["datasets"] = {ROWS.name: rows}
    # No addresses: a figure holds only the numbers given to it.
    text = vl_convert.vegalite_to_svg(specification, vl_version=VEGALITE, allowed_base_urls=[])
    return _renumbered(str(text))


def threshold_curves(rows: charts.Rows, title: str) -> str:
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
    modes = charts.mode_names([epoch.mode for epoch in results.epochs])
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
    return chart, charts.training_rows(results.epochs, metric)


def _accuracy_bytes(results: Results) -> Drawing:
    runs = [group[0] for group in by_model_and_mode(results.runs)]
    modes = charts.mode_names([run.mode for run in runs])
    chart = charts.trade_off("bytes", "stored weights (logarithmic)", modes, legend=True)
    chart = chart.properties(width=560, height=320, data=ROWS)
    return chart, charts.trade_off_rows("bytes", runs)


def _speedup(results: Results) -> Drawing:
    rows = charts.speed_rows(results.runs)
    known = all(row["low"] is not None and row["high"] is not None for row in rows)
    modes = charts.mode_names([run.mode for run in results.runs if run.mode != "fp32"])
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
        for row in charts.confusion_rows(matrix)
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


_BUNDLE = """
import sys, vl_convert
script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", sys.argv[1])
sys.stdout.buffer.write(script.encode())
"""


@cache
def start_bundling() -> "subprocess.Popen[bytes]":
    """Begin, where nothing has begun yet; `vega_script` waits for the end."""
    return subprocess.Popen([sys.executable, "-c", _BUNDLE, VEGALITE], stdout=subprocess.PIPE)


@cache
def vega_script() -> str:
    """JavaScript that defines `vegaEmbed`, of the version that Altair writes for."""
    process = start_bundling()
    script, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("vl-convert could not bundle Vega; what it said stands above")
    return script.decode()


STAGES = {"fp32": "train_fp32", "ptq": "quantize_ptq", "qat": "train_qat"}


def mermaid_markdown(runs: Sequence[Run], title: str) -> str:
    """The flowchart and the bar chart of test accuracy, each in a ```mermaid fence."""
    dataset = runs[0].dataset
    lines = [
        f"# {escape_markdown(title)}: {escape_markdown(dataset)}",
        "",
        "Written by the `report` stage from `benchmarks/quantization_runs.csv`. Accuracies are of "
        f"the test split of {escape_markdown(dataset)}, sizes of the stored weights, speed-ups "
        f"against FP32 on one machine ({escape_markdown(runs[0].machine)}).",
        "",
        "```mermaid",
        *_flowchart(runs),
        "```",
        "",
        "```mermaid",
        *_bar_chart(runs),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _flowchart(runs: Sequence[Run]) -> list[str]:
    lines = [
        "flowchart LR",
        f"    download[({quoted('download', runs[0].dataset)})]",
        f"    evaluate[{quoted('evaluate')}]",
        f"    report[{quoted('report')}]",
    ]
    models = list(dict.fromkeys(run.model for run in runs))
    for number, model in enumerate(models):
        # Numbered ids: a model named `end` would end the subgraph.
        lines += [f"    subgraph model{number}[{quoted(model)}]"]
        groups = [group for group in by_model_and_mode(runs) if group[0].model == model]
        for group in groups:
            lines.append(f"        {_node(number, group[0].mode)}[{_label(group)}]")
        for mode in (group[0].mode for group in groups if group[0].mode != "fp32"):
            lines.append(f"        {_node(number, 'fp32')} --> {_node(number, mode)}")
        lines += ["    end", f"    download --> {_node(number, 'fp32')}"]
        lines += [f"    {_node(number, group[0].mode)} --> evaluate" for group in groups]
    return [*lines, "    evaluate --> report"]


def _node(number: int, mode: str) -> str:
    return f"model{number}_{mode}"


def _label(group: Sequence[Run]) -> str:
    run = group[0]
    lines = [f"{STAGES[run.mode]}@{run.model}", f"{percent(run.test_accuracy)} test accuracy"]
    if run.mode == "fp32":
        return quoted(*lines, size(run.bytes))
    timed = [other for other in group if other.speedup is not None]
    speedups = (f"{times(other.speedup)} as fast, batch {other.batch_size}" for other in timed)
    return quoted(*lines, f"{size(run.bytes)}, {times(run.compression)} smaller", *speedups)


def _bar_chart(runs: Sequence[Run]) -> list[str]:
    firsts = [group[0] for group in by_model_and_mode(runs)]
    names = ", ".join(quoted(f"{run.model} {MODE_NAMES[run.mode]}") for run in firsts)
    return [
        # Horizontal: nine names do not fit side by side.
        "xychart-beta horizontal",
        f"    title {quoted(f'Test accuracy on {runs[0].dataset}')}",
        f"    x-axis [{names}]",
        f"    y-axis {quoted('test accuracy (%)')} 0 --> 100",
        f"    bar [{', '.join(f'{100 * run.test_accuracy:.2f}' for run in firsts)}]",
    ]
