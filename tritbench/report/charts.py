"""One panel of each chart, as Altair makes it, and the rows that it draws.

`figures.py` puts panels side by side in an SVG file; in the page each panel stands alone and is as
wide as the screen allows. Lines and text take the colour of the text around them (`currentColor`).
"""

from collections.abc import Sequence
from typing import Any

import altair as alt

from tritbench.report.rows import MODES, Peer
from tritbench.report.runs import Confusion, Epoch, Run
from tritbench.report.summary import MODE_NAMES, speedup
from tritbench.report.text import percent, seconds, size, times

INK = "currentColor"
# Okabe and Ito's palette: distinct also to colour-blind readers, and 3:1 against white and black.
COLORS = {"FP32": "#0072B2", "PTQ": "#D55E00", "QAT": "#009E73", "peer": "#8A8F98"}
# The same hues, lighter, which the page puts in their place in dark mode.
DARK = {"FP32": "#56B4E9", "PTQ": "#F0883E", "QAT": "#2BC29A", "peer": "#A0A8B2"}
METHODS = ["#E69F00", "#CC79A7", "#009E73", "#56B4E9", "#D55E00", "#8A8F98"]
SHAPES = {"FP32": "circle", "PTQ": "square", "QAT": "triangle-up", "peer": "diamond"}
SPLITS = {"validation": [1, 0], "training": [4, 3]}
# Vega's units follow numbers without one; bytes in KB = 1000 bytes, as in the tables.
UNITS = {
    "bytes": "replace(format(datum.value, '~s'), 'k', 'K') + 'B'",
    "latency_s": "format(datum.value, '~s') + 's'",
}


def scale(names: Sequence[str], values: dict[str, Any]) -> alt.Scale:
    """The scale that gives each of `names` its entry of `values`."""
    return alt.Scale(domain=list(names), range=[values[name] for name in names])


def for_page(chart: Any, height: int) -> dict[str, Any]:
    """A chart as Vega-Lite without rows, which the page names `rows`, and without a width."""
    named = chart.properties(height=height, data=alt.NamedData(name="rows"))
    specification: dict[str, Any] = named.to_dict(validate=False)
    specification.pop("config")  # Altair's own; the page has one for light and dark
    return specification


def _key(shown: bool, title: str | None = None) -> Any:
    return alt.Legend(title=title) if shown else None


def _tips(**columns: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip(f"{column}:N", title=title.replace("_", " "))
        for title, column in columns.items()
    ]


def curve(metric: str, modes: Sequence[str], epochs: int, legend: bool = False) -> Any:
    """Loss or accuracy by epoch; rows: epoch, value, mode, split, text."""
    shares = metric == "accuracy"
    # Losses with and without distillation lie far apart; what is 0 has no logarithm.
    span = (
        alt.Scale(zero=False)
        if shares
        else alt.Scale(type="symlog", constant=0.1, zero=False, nice=False)
    )
    axis = alt.Axis(format=".0%", tickMinStep=0.01) if shares else alt.Axis(tickCount=5)
    ticks = alt.Axis(tickCount=min(epochs, 6), format="d", tickMinStep=1)
    return (
        alt.Chart()
        .mark_line(point={"size": 28}, strokeWidth=2)
        .encode(
            x=alt.X("epoch:Q", axis=ticks),
            y=alt.Y("value:Q", title=metric, axis=axis, scale=span),
            color=alt.Color("mode:N", scale=scale(modes, COLORS), legend=_key(legend)),
            strokeDash=alt.StrokeDash(
                "split:N", scale=scale(list(SPLITS), SPLITS), legend=_key(legend)
            ),
            tooltip=_tips(mode="mode", split="split", epoch="epoch", **{metric: "text"}),
        )
    )


def trade_off(x: str, title: str, modes: Sequence[str], legend: bool = False) -> Any:
    """Test accuracy against `x`, a key of UNITS, with the front that nothing beats in both.

    Rows: model, mode, label, accuracy, low, high, the column `x`, front, order, text, cost.
    """
    base = alt.Chart().encode(
        x=alt.X(
            f"{x}:Q",
            title=title,
            scale=alt.Scale(type="log", padding=56),
            axis=alt.Axis(labelExpr=UNITS[x], tickCount=3),
        ),
        y=alt.Y(
            "accuracy:Q",
            title="test accuracy",
            scale=alt.Scale(zero=False, padding=14),
            axis=alt.Axis(format=".0%", tickMinStep=0.01),
        ),
        tooltip=_tips(network="label", test_accuracy="text", **{title: "cost"}),
    )
    front = (
        base.transform_filter("datum.front")
        .mark_line(
            interpolate="step-after", strokeWidth=1.5, strokeDash=[5, 4], color=INK, opacity=0.55
        )
        .encode(order=alt.Order(f"{x}:Q"), tooltip=alt.TooltipValue(None))
    )
    color = alt.Color("mode:N", scale=scale(modes, COLORS), legend=_key(legend))
    whiskers = base.mark_rule(strokeWidth=2).encode(y="low:Q", y2="high:Q", color=color)
    shape = alt.Shape("mode:N", scale=scale(modes, SHAPES), legend=_key(legend))
    points = base.mark_point(filled=True, size=110, opacity=1).encode(color=color, shape=shape)
    # A ring marks what lies on the front.
    rings = base.transform_filter("datum.front").mark_point(
        size=110, opacity=1, strokeWidth=1.5, color=INK
    )
    # Left of the points, where the front does not pass: it climbs at them and goes to the right.
    names = base.transform_filter("datum.named").mark_text(
        align="right", dx=-11, dy=-9, fontSize=12, fontWeight="bold", color=INK
    )
    layers = [front, whiskers, points, rings.encode(shape=shape), names.encode(text="model:N")]
    return alt.layer(*layers)


def speed(
    models: Sequence[str], modes: Sequence[str], intervals: bool, legend: bool = False
) -> Any:
    """Speed-up over FP32; rows: model, mode, speedup, top, label, text, and low and high where
    there are intervals."""
    base = alt.Chart().encode(
        x=alt.X("model:N", sort=list(models), title=None, axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("mode:N", sort=list(modes)),
        y=alt.Y("speedup:Q", title="times as fast as FP32 (line: equal)"),
        tooltip=_tips(model="model", mode="mode", speedup="text"),
    )
    color = alt.Color("mode:N", scale=scale(modes, COLORS), legend=_key(legend))
    bars = base.mark_bar(cornerRadiusEnd=2).encode(color=color)
    labels = base.mark_text(dy=-8, fontSize=11, color=INK).encode(y=alt.Y("top:Q"), text="label:N")
    equal = alt.Chart().mark_rule(color=COLORS["FP32"], strokeWidth=2, strokeDash=[6, 3])
    ranges = base.mark_rule(strokeWidth=2, color=INK).encode(y="low:Q", y2="high:Q")
    layers = [bars, ranges, labels] if intervals else [bars, labels]
    return alt.layer(*layers, equal.encode(y=alt.YDatum(1)))


def confusion(classes: Sequence[str], legend: bool = False, step: int | None = None) -> Any:
    """Shares of each actual class by prediction; rows: actual, predicted, share, text."""
    # The root spreads small shares: on a linear scale the diagonal hides every error.
    shade = alt.Scale(type="sqrt", domain=[0, 1], range=[0.02, 1])
    key = alt.Legend(title="share of actual class", format=".0%", orient="bottom")
    base = alt.Chart().encode(
        x=alt.X(
            "predicted:N",
            sort=list(classes),
            scale=alt.Scale(domain=list(classes)),
            axis=alt.Axis(labelAngle=-60),
        ),
        y=alt.Y("actual:N", sort=list(classes), scale=alt.Scale(domain=list(classes))),
        tooltip=_tips(actual="actual", predicted="predicted", images="text"),
    )
    return base.mark_rect(color=COLORS["FP32"]).encode(
        opacity=alt.Opacity("share:Q", scale=shade, legend=key if legend else None)
    )


def strip(
    title: str,
    field: str,
    names: Sequence[str],
    modes: Sequence[str],
    form: str,
    intervals: bool = False,
) -> Any:
    """A value for each name and mode as points; rows: name, mode, `field`, text, and low and high
    where there are intervals."""
    base = alt.Chart().encode(
        y=alt.Y("name:N", sort=list(names), title=None, axis=alt.Axis(grid=True, labelLimit=160)),
        yOffset=alt.YOffset("mode:N", sort=list(modes)),
        x=alt.X(
            f"{field}:Q",
            title=title,
            axis=alt.Axis(format=form, tickCount=4),
            scale=alt.Scale(zero=False, padding=12),
        ),
        color=alt.Color("mode:N", scale=scale(modes, COLORS), legend=None),
        tooltip=_tips(name="name", mode="mode", **{title: "text"}),
    )
    ranges = base.mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q")
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        shape=alt.Shape("mode:N", scale=scale(modes, SHAPES), legend=None)
    )
    return alt.layer(ranges, points) if intervals else alt.layer(points)


def sweep() -> Any:
    """Validation accuracy by threshold; rows: method, threshold (not FP32), accuracy, text."""
    y = alt.Y(
        "accuracy:Q",
        title="validation accuracy",
        axis=alt.Axis(format=".0%", tickMinStep=0.01),
        scale=alt.Scale(zero=False),
    )
    tips = _tips(method="method", threshold="threshold", accuracy="text")
    methods = (
        alt.Chart()
        .transform_filter("datum.method != 'FP32'")
        .mark_line(strokeWidth=2, point={"size": 34})
        .encode(
            x=alt.X("threshold:Q", title="threshold"),
            y=y,
            tooltip=tips,
            color=alt.Color(
                "method:N",
                scale=alt.Scale(range=METHODS),
                legend=alt.Legend(orient="bottom", title=None),
            ),
            shape=alt.Shape("method:N", legend=None),
        )
    )
    fp32 = (
        alt.Chart()
        .transform_filter("datum.method == 'FP32'")
        .mark_rule(color=COLORS["FP32"], strokeDash=[6, 3], strokeWidth=2)
        .encode(y=y, tooltip=tips)
    )
    return alt.layer(methods, fp32)


Rows = list[dict[str, Any]]


def training_rows(epochs: Sequence[Epoch], metric: str) -> Rows:
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


def trade_off_rows(x: str, runs: Sequence[Run], peers: Sequence[Peer] = ()) -> Rows:
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


def speed_rows(runs: Sequence[Run]) -> Rows:
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


def confusion_rows(matrix: Confusion) -> Rows:
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
