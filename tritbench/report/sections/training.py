"""Curves of training, and PTQ by threshold."""

from tritbench.report import chart_data, charts
from tritbench.report.blocks import Chart, Panel, Section, Table
from tritbench.report.chart_data import mode_names
from tritbench.report.runs import Results
from tritbench.report.summary import MODE_NAMES, percent


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
            rows = chart_data.training(epochs, metric)
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
