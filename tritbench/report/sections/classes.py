"""Which classes are taken for which, and the accuracy of each."""

from collections.abc import Sequence

from tritbench.report import chart_data, charts
from tritbench.report.blocks import MOST_CLASSES, Chart, Panel, Section, Table
from tritbench.report.chart_data import between, mode_names
from tritbench.report.runs import Confusion, Results
from tritbench.report.summary import MODE_NAMES, percent


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
                chart_data.confusion(matrix),
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
