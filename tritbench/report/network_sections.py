"""Sections of the page: what networks confuse and hold, and how they were trained and swept."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tritbench.report import charts
from tritbench.report.answer import minus
from tritbench.report.blocks import (
    MOST_CLASSES,
    Chart,
    Gallery,
    Panel,
    Picture,
    Section,
    Table,
    image_png,
    trits_png,
)
from tritbench.report.charts import Rows, between, mode_names
from tritbench.report.evidence import FirstLayer, Flip, Flips, LayerFacts, Networks
from tritbench.report.runs import Confusion, Results
from tritbench.report.summary import MODE_NAMES
from tritbench.report.sweeps import SweepResult, label, sweep_table
from tritbench.report.text import percent, size

# Of a layer: heading of the column, field, format on the axis, format in text.
LAYER_COLUMNS = (
    ("zeros", "zeros", ".0%", "{:.1%}"),
    ("bits a weight", "bits", ".2f", "{:.3f}"),
    ("relative error", "error", ".2f", "{:.3f}"),
)


def layers_section(networks: Networks) -> Section | None:
    """Zeros, bits and error of each layer."""
    layers = networks.layers
    if not layers:
        return None
    modes = mode_names([layer.mode for layer in layers])
    table = Table(
        "Layers",
        [
            "model",
            "mode",
            "layer",
            "kind",
            "weights",
            "zeros",
            "bits a weight",
            "entropy",
            "relative error",
        ],
        [
            [
                *(layer.model, MODE_NAMES[layer.mode], layer.name, layer.kind),
                f"{layer.weights:,}",
                *(f"{layer.zeros:.1%}", f"{layer.bits:.3f}", f"{layer.entropy:.3f}"),
                f"{layer.error:.3f}",
            ]
            for layer in layers
        ],
        names=4,
    )
    names = list(dict.fromkeys(_place(layer) for layer in layers))
    panels = []
    for title, field, axis, form in LAYER_COLUMNS:
        rows = [
            {"name": _place(layer), "mode": MODE_NAMES[layer.mode]}
            | {field: getattr(layer, field), "text": form.format(getattr(layer, field))}
            for layer in layers
        ]
        read = ", ".join(f"{row['name']} {row['mode']} {row['text']}" for row in rows)
        chart = charts.strip(title, field, names, modes, axis)
        label = f"{title.capitalize()} of each layer: {read}."
        panels.append(
            Panel(title.capitalize(), rows, label, spec=charts.for_page(chart, 30 * len(names)))
        )
    lead = (
        "Bits are of the packed weights; their entropy is what the best code would take. The error "
        "is the norm of the difference to the FP32 weights over theirs, BatchNorm folded into "
        "both: large where a method follows a layer's outputs, or trains on, not the weights."
    )
    chart = Chart("Layer by layer", {}, panels, [table], modes=modes)
    return Section("layers", "Layers", lead, [chart])


def _place(layer: LayerFacts) -> str:
    return f"{layer.model} {layer.name.split(' ')[0].rstrip(':')} {layer.name.split(' ')[1]}"


def weights_section(networks: Networks) -> Section | None:
    """The weights that see the image, a picture for each unit."""
    galleries = [_weights(layer) for layer in networks.first_layers]
    if not galleries:
        return None
    lead = (
        "A pixel's weight in its place in the image: +1 speaks for the class or unit, −1 against "
        "it, and 0 is left out."
    )
    return Section("weights", "Learned weights", lead, galleries)


def _weights(layer: FirstLayer) -> Gallery:
    pictures = []
    for name, trits in zip(layer.names, layer.trits, strict=True):
        plus, less = (int((trits == sign).sum()) for sign in (1, -1))
        label = f"{layer.model} {MODE_NAMES[layer.mode]}, weights of {name}: {plus} are +1, "
        pictures.append(Picture(trits_png(trits), f"{label}{less} are −1.", [name]))
    shown = len(pictures)
    title = f"{layer.model}, {MODE_NAMES[layer.mode]}"
    note = "" if shown == layer.outputs else f"The first {shown} of {layer.outputs} units."
    return Gallery(title, pictures, note, trits=True)


def flips_section(
    flips: Sequence[Flips], images: NDArray[np.uint8], classes: Sequence[str]
) -> Section | None:
    """Test images that a ternary network gets wrong and FP32 right, worst first.

    Args:
        flips: of each model and ternary mode.
        images: the test split, shown where it is uint8 [n, 1 or 3, height, width].
        classes: a name for each class.
    """
    if not flips:
        return None
    are_images = images.dtype == np.uint8 and images.ndim == 4 and images.shape[1] in (1, 3)
    blocks = [_flips(each, images, classes) for each in flips] if are_images else []
    table = Table(
        "Images that changed sides",
        ["model", "mode", "lost", "won", "balance"],
        [
            [f.model, MODE_NAMES[f.mode], str(f.lost), str(f.won), minus(f"{f.won - f.lost:+d}")]
            for f in flips
        ],
    )
    lead = (
        f"Of {len(images):,} test images. Lost: FP32 names the right class and the ternary network "
        "does not. Won: the other way round. Those shown are lost, first the one whose right class "
        "fell most in probability."
    )
    return Section("flips", "Flipped images", lead, [table, *blocks])


def _flips(flips: Flips, images: NDArray[np.uint8], classes: Sequence[str]) -> Gallery:
    mode = MODE_NAMES[flips.mode]
    pictures = [
        Picture(image_png(images[flip.index]), _described(flip, mode, classes), lines)
        for flip in flips.worst
        for lines in [
            [
                classes[flip.actual],
                f"FP32 {flip.before_probability:.0%}",
                f"{mode}: {classes[flip.after]} {flip.after_probability:.0%}",
            ]
        ]
    ]
    title = f"{flips.model}, {mode}: {flips.lost} lost, {flips.won} won"
    return Gallery(title, pictures, "" if pictures else "None was lost.")


def _described(flip: Flip, mode: str, classes: Sequence[str]) -> str:
    return (
        f"Test image {flip.index}, {classes[flip.actual]}: FP32 gives it "
        f"{flip.before_probability:.0%}, {mode} gives {classes[flip.after]} "
        f"{flip.after_probability:.0%}."
    )


def confusion_section(results: Results) -> Section:
    """Two confusion matrices to choose, and the accuracy of each class."""
    classes = list(results.confusions[0].classes)
    modes = mode_names([matrix.mode for matrix in results.confusions])
    blocks: list[Chart] = []
    if len(classes) <= MOST_CLASSES:
        side = max(280, 26 * len(classes))
        spec = charts.for_page(charts.confusion(classes), side)
        panels = [
            Panel(
                f"{matrix.model}, {MODE_NAMES[matrix.mode]}",
                charts.confusion_rows(matrix),
                f"Confusion matrix of {matrix.model} {MODE_NAMES[matrix.mode]}.",
                _worst(matrix),
            )
            for matrix in results.confusions
        ]
        last = [i for i, m in enumerate(results.confusions) if m.model == results.models[-1]]
        tables = [_confusion(matrix) for matrix in results.confusions]
        note = (
            "The stronger the colour, the larger the share of the actual class (square-root scale)."
        )
        views = [last[0], last[-1]] if len(last) > 1 else last
        blocks.append(Chart("Confusion matrices", spec, panels, tables, note, views=views))
    blocks += _classes(results, modes)
    lead = "Which classes are taken for which, over the test images." + _bare(results.confusions[0])
    return Section("classes", "Classes", lead, blocks)


def _bare(matrix: Confusion) -> str:
    counted = zip(matrix.classes, matrix.counts, strict=True)
    names = [name for name, counts in counted if not sum(counts)]
    return (
        f" No test image shows {', '.join(names)}: no figure says anything of that."
        if names
        else ""
    )


def _worst(matrix: Confusion) -> str:
    pairs = [
        (count, f"{actual} taken for {predicted} ({count})")
        for actual, counts in zip(matrix.classes, matrix.counts, strict=True)
        for predicted, count in zip(matrix.classes, counts, strict=True)
        if actual != predicted and count
    ]
    ranked = sorted(pairs, key=lambda pair: -pair[0])[:3]
    return "Most often wrong: " + ", ".join(text for _, text in ranked) + "." if ranked else ""


def _confusion(matrix: Confusion) -> Table:
    rows = [
        [actual, *(str(count) for count in counts)]
        for actual, counts in zip(matrix.classes, matrix.counts, strict=True)
    ]
    caption = f"{matrix.model} {MODE_NAMES[matrix.mode]}: test images by class"
    return Table(caption, ["actual \\ predicted", *matrix.classes], rows, names=1)


def _classes(results: Results, modes: Sequence[str]) -> list[Chart]:
    """Accuracy of each class, where per_class.csv says it."""
    scores = results.class_scores
    if not scores:
        return []
    names = list(dict.fromkeys(score.name for score in scores))
    panels = []
    for model in results.models:
        here = [score for score in scores if score.model == model]
        rows = [
            {"name": s.name, "mode": MODE_NAMES[s.mode], "accuracy": s.accuracy}
            | {"low": s.low, "high": s.high, "text": percent(s.accuracy) + between(s.low, s.high)}
            for s in here
        ]
        worst = min(here, key=lambda score: score.accuracy)
        caption = f"Lowest: {worst.name}, {percent(worst.accuracy)} in {MODE_NAMES[worst.mode]}."
        panels.append(Panel(model, rows, f"Accuracy of {model} by class.", caption))
    table = Table(
        "Test accuracy by class",
        ["model", "mode", "class", "test accuracy [95% interval]"],
        [
            [s.model, MODE_NAMES[s.mode], s.name, percent(s.accuracy) + between(s.low, s.high)]
            for s in scores
        ],
        names=3,
    )
    chart = charts.strip("test accuracy", "accuracy", names, modes, ".0%", intervals=True)
    spec = charts.for_page(chart, max(160, 34 * len(names)))
    return [Chart("Accuracy by class", spec, panels, [table], modes=modes)]


def training_section(results: Results) -> Section:
    """Loss and accuracy by epoch, a panel for each model."""
    modes = mode_names([epoch.mode for epoch in results.epochs])
    blocks = []
    for metric in ("accuracy", "loss"):
        panels, table = [], []
        for model in results.models:
            epochs = [epoch for epoch in results.epochs if epoch.model == model]
            ends = {epoch.mode: getattr(epoch, f"val_{metric}") for epoch in epochs}
            form = "{:.2%}" if metric == "accuracy" else "{:.3f}"
            ended = ", ".join(f"{MODE_NAMES[m]} {form.format(v)}" for m, v in ends.items())
            label = f"{metric.capitalize()} of {model} by epoch."
            rows = charts.training_rows(epochs, metric)
            panels.append(Panel(model, rows, label, f"Validation ends at {ended}."))
            for epoch in epochs:
                values = [getattr(epoch, f"{split}_{metric}") for split in ("train", "val")]
                cells = [percent(v) if metric == "accuracy" else f"{v:.4f}" for v in values]
                table.append([model, MODE_NAMES[epoch.mode], str(epoch.epoch), *cells])
        header = ["model", "mode", "epoch", "training", "validation"]
        most = max(epoch.epoch for epoch in results.epochs)
        spec = charts.for_page(charts.curve(metric, modes, most), 210)
        title = f"{metric.capitalize()} by epoch"
        tables = [Table(title, header, table)]
        blocks.append(Chart(title, spec, panels, tables, modes=modes, splits=True))
    lead = (
        "FP32 from nothing, QAT from the FP32 network on. QAT's training loss includes what it "
        "learns from FP32's outputs, so it stands higher; compare validation."
    )
    return Section("training", "Training", lead, blocks)


def sweep_section(results: Results) -> Section | None:
    """PTQ at every threshold, where sweep.csv says it."""
    points = results.sweep
    if not points:
        return None
    panels = []
    for model in dict.fromkeys(point.model for point in points):
        here = [point for point in points if point.model == model]
        rows = [
            {"method": p.method, "threshold": p.threshold, "accuracy": p.accuracy}
            | {"text": percent(p.accuracy)}
            for p in here
        ]
        fp32 = here[0].fp32_accuracy
        rows.append({"method": "FP32", "accuracy": fp32, "text": percent(fp32)})
        best = max(here, key=lambda point: point.accuracy)
        caption = (
            f"Best: {best.method} at {best.threshold:g}, {percent(best.accuracy)}; on the test "
            f"images {percent(best.test_accuracy)}. FP32 {percent(fp32)}."
        )
        panels.append(Panel(model, rows, f"Validation accuracy of {model} by threshold.", caption))
    table = Table(
        "Accuracy by threshold",
        ["model", "method", "threshold", "validation", "test"],
        [
            [p.model, p.method, f"{p.threshold:g}", percent(p.accuracy), percent(p.test_accuracy)]
            for p in points
        ],
    )
    spec = charts.for_page(charts.sweep(), 230)
    note = "On validation images. Dashed: FP32. One seed."
    chart = Chart("Accuracy by threshold", spec, panels, [table], note)
    lead = "How PTQ by a fixed threshold depends on it, in mean magnitudes of the weights."
    return Section("thresholds", "Thresholds", lead, [chart])


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
