"""The figures of the report as SVG; the same results give the same bytes."""

import re
from collections.abc import Sequence
from typing import Any

import altair as alt
import vl_convert

from tritbench.report.runs import MODES, Confusion, Epoch, Results, Run
from tritbench.report.summary import MODE_NAMES, by_model_and_mode, times

# Okabe and Ito's palette: distinct also to colour-blind readers, and 3:1 against white.
COLORS = {"FP32": "#0072B2", "PTQ": "#D55E00", "QAT": "#009E73"}
SHAPES = {"FP32": "circle", "PTQ": "square", "QAT": "triangle-up"}
# Of vl-convert's Vega-Lite versions the one that this Altair writes.
VEGALITE = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
CONFIG = {
    "background": "white",
    "font": "sans-serif",
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "gridColor": "#e4e4e4"},
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "symbolSize": 90},
    "header": {"labelFontSize": 13, "labelFontWeight": "bold", "titleFontSize": 12},
    "title": {"fontSize": 14, "anchor": "start"},
}


def figures(results: Results) -> dict[str, str]:
    """File name (without folder) to SVG text."""
    runs = results.runs
    dataset = runs[0].dataset
    models = list(dict.fromkeys(run.model for run in runs))
    charts = {
        "training_loss.svg": _training(results.epochs, "loss", models),
        "training_accuracy.svg": _training(results.epochs, "accuracy", models),
        "accuracy_bytes.svg": _accuracy_bytes(runs),
        "speedup.svg": _speedup(runs, models),
        "confusion.svg": _confusion(results.confusions, models),
    }
    titles = {
        "training_loss.svg": "Loss while training",
        "training_accuracy.svg": "Accuracy while training",
        "accuracy_bytes.svg": "Test accuracy (95% interval) and stored weights",
        "speedup.svg": f"Speed-up over FP32, {runs[0].machine}",
        "confusion.svg": "Predicted classes of the test images",
    }
    return {
        name: svg(chart.properties(title=f"{titles[name]}: {dataset}"))
        for name, chart in charts.items()
    }


def svg(chart: Any) -> str:
    """An Altair chart as SVG in the project's style."""
    specification = chart.configure(**CONFIG).to_dict()
    # No addresses: a figure holds only the numbers given to it.
    text = vl_convert.vegalite_to_svg(specification, vl_version=VEGALITE, allowed_base_urls=[])
    return _renumbered(str(text))


def _renumbered(svg: str) -> str:
    """Vega counts its ids on from figure to figure; count anew, so that bytes repeat."""
    names = {
        name: f"id{n}" for n, name in enumerate(dict.fromkeys(re.findall(r' id="(.*?)"', svg)))
    }
    svg = re.sub(r' id="(.*?)"', lambda match: f' id="{names[match[1]]}"', svg)
    return re.sub(r"url\(#(.*?)\)", lambda match: f"url(#{names[match[1]]})", svg)


def _data(rows: list[dict[str, Any]]) -> alt.InlineData:
    return alt.InlineData(values=rows)


def _mode_scale(present: Sequence[str], values: dict[str, str]) -> alt.Scale:
    names = [MODE_NAMES[mode] for mode in MODES if mode in present]
    return alt.Scale(domain=names, range=[values[name] for name in names])


def _training(epochs: Sequence[Epoch], metric: str, models: list[str]) -> Any:
    rows = [
        {
            "model": epoch.model,
            "mode": MODE_NAMES[epoch.mode],
            "split": split,
            "epoch": epoch.epoch,
            "value": getattr(epoch, f"{column}_{metric}"),
        }
        for epoch in epochs
        for split, column in (("validation", "val"), ("train", "train"))
    ]
    axis = alt.Axis(format=".0%") if metric == "accuracy" else alt.Axis()
    most = max(epoch.epoch for epoch in epochs)
    chart = alt.Chart(width=210, height=210).mark_line(point={"size": 28}, strokeWidth=2)
    return (
        chart.encode(
            x=alt.X("epoch:Q", axis=alt.Axis(tickCount=min(most, 6), format="d", tickMinStep=1)),
            y=alt.Y("value:Q", title=metric, axis=axis, scale=alt.Scale(zero=False)),
            color=alt.Color("mode:N", scale=_mode_scale([e.mode for e in epochs], COLORS)),
            strokeDash=alt.StrokeDash(
                "split:N", scale=alt.Scale(domain=["validation", "train"], range=[[1, 0], [5, 3]])
            ),
        )
        .facet(alt.Facet("model:N", sort=models, title=None), columns=3, data=_data(rows))
        # Models need not train for equally many epochs.
        .resolve_scale(x="independent")
    )


def _accuracy_bytes(runs: Sequence[Run]) -> Any:
    rows = [
        {
            "model": run.model,
            "mode": MODE_NAMES[run.mode],
            "order": MODES.index(run.mode),
            "bytes": run.bytes,
            "accuracy": run.test_accuracy,
            "low": run.test_accuracy_low,
            "high": run.test_accuracy_high,
        }
        for run, *_ in by_model_and_mode(runs)
    ]
    present = [run.mode for run in runs]
    base = alt.Chart(_data(rows), width=560, height=320).encode(
        x=alt.X(
            "bytes:Q",
            title="stored weights (bytes, logarithmic)",
            scale=alt.Scale(type="log", padding=50),
            axis=alt.Axis(format="~s", tickCount=6),
        ),
        y=alt.Y(
            "accuracy:Q",
            title="test accuracy",
            scale=alt.Scale(zero=False, padding=14),
            axis=alt.Axis(format=".1%"),
        ),
    )
    # The line tells which points are the same model; labels at both its ends name it.
    path = base.mark_line(color="#999999", strokeWidth=1).encode(
        detail="model:N", order="order:Q", color=alt.value("#999999")
    )
    color = alt.Color("mode:N", scale=_mode_scale(present, COLORS))
    whiskers = base.mark_rule(strokeWidth=2).encode(y="low:Q", y2="high:Q", color=color)
    points = base.mark_point(filled=True, size=110, opacity=1).encode(
        color=color, shape=alt.Shape("mode:N", scale=_mode_scale(present, SHAPES))
    )
    first = base.transform_filter("datum.mode == 'FP32'")
    last = base.transform_filter("datum.mode == 'QAT'")
    right = first.mark_text(align="left", dx=9, fontSize=12, fontWeight="bold").encode(
        text="model:N"
    )
    left = last.mark_text(align="right", dx=-9, fontSize=12, fontWeight="bold").encode(
        text="model:N"
    )
    return alt.layer(path, whiskers, points, right, left)


def _speedup(runs: Sequence[Run], models: list[str]) -> Any:
    rows = [
        {
            "model": run.model,
            "mode": MODE_NAMES[run.mode],
            "batch": f"batch size {run.batch_size}",
            "speedup": run.speedup,
            "label": times(run.speedup),
        }
        for run in runs
        if run.mode != "fp32" and run.speedup is not None
    ]
    batches = [f"batch size {size}" for size in sorted({run.batch_size for run in runs})]
    present = [run.mode for run in runs if run.mode != "fp32"]
    base = alt.Chart(width=max(120, 100 * len(models)), height=240).encode(
        x=alt.X("model:N", sort=models, title=None, axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("mode:N", sort=[MODE_NAMES[mode] for mode in MODES]),
        y=alt.Y("speedup:Q", title="times as fast as FP32 (line: equal)"),
    )
    bars = base.mark_bar().encode(
        color=alt.Color("mode:N", scale=_mode_scale(present, COLORS)),
    )
    labels = base.mark_text(dy=-7, fontSize=11).encode(text="label:N")
    rule = alt.Chart().mark_rule(color=COLORS["FP32"], strokeWidth=2, strokeDash=[6, 3])
    return alt.layer(bars, labels, rule.encode(y=alt.datum(1))).facet(
        alt.Facet("batch:N", sort=batches, title=None), columns=2, data=_data(rows)
    )


def _confusion(confusions: Sequence[Confusion], models: list[str]) -> Any:
    rows = [
        {
            "model": confusion.model,
            "mode": MODE_NAMES[confusion.mode],
            "actual": actual,
            "predicted": predicted,
            "share": count / max(1, sum(counts)),
        }
        for confusion in confusions
        for actual, counts in zip(confusion.classes, confusion.counts, strict=True)
        for predicted, count in zip(confusion.classes, counts, strict=True)
    ]
    classes = list(confusions[0].classes)
    # The root spreads small shares: on a linear scale the diagonal hides every error.
    scale = alt.Scale(type="sqrt", scheme="blues", domain=[0, 1])
    side = alt.Step(20 if len(classes) <= 12 else 8)
    return (
        alt.Chart(width=side, height=side)
        .mark_rect()
        .encode(
            x=alt.X("predicted:N", sort=classes, axis=alt.Axis(labelAngle=-60)),
            y=alt.Y("actual:N", sort=classes),
            color=alt.Color(
                "share:Q",
                title="share of actual class",
                scale=scale,
                legend=alt.Legend(format=".0%", orient="bottom", gradientLength=240),
            ),
        )
        .facet(
            row=alt.Row("model:N", sort=models, title=None),
            column=alt.Column("mode:N", sort=list(MODE_NAMES.values()), title=None),
            data=_data(rows),
        )
    )
