"""benchmarks/report.html: one file that needs no network and no script."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from tritbench.report.runs import Confusion, Results
from tritbench.report.summary import (
    MODE_NAMES,
    by_model_and_mode,
    difference,
    interval,
    percent,
    provenance,
    results_table,
    seconds,
    size,
    times,
)

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --page: #fff; --line: #d0d7de;
  --band: #f6f8fa; --link: #0058a3; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --soft: #9aa4af; --page: #0d1117; --line: #30363d; --band: #161b22;
    --link: #79b8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1rem 4rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .5rem 0; overflow-wrap: anywhere; }
.soft, caption, figcaption { color: var(--soft); }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 .4rem; }
th, td { padding: .3rem .65rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
thead th { vertical-align: bottom; white-space: normal; background: var(--band); }
th[scope=row], thead th:first-child, .names2 th:nth-child(2), .names2 td:nth-child(2) {
  text-align: left; }
.answer { font-size: 1rem; }
figure { margin: .75rem 0; }
figure .scroll { background: #fff; border: 1px solid var(--line); border-radius: 6px;
  padding: .75rem; }
figure img { display: block; width: auto; max-width: max(100%, 36rem); height: auto; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--link); }
pre { background: var(--band); padding: .75rem; overflow-x: auto; border-radius: 6px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .75rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media print {
  body { max-width: none; padding: 0; font-size: 9pt; } figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; } .scroll { overflow: visible; }
  table, .answer { font-size: 7.5pt; } th, td { padding: .15rem .3rem; white-space: normal; }
  figure img { max-width: 100%; } }
"""


@dataclass(frozen=True)
class Table:
    """Text cells; the first `names` columns say what a row is about, the others are numbers."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 2


def page_html(results: Results, svgs: Mapping[str, str], title: str, engine: str) -> str:
    """The whole page.

    Args:
        results: as `read_results` returns them.
        svgs: as `figures` returns them.
        title: the report's.
        engine: what executed the ternary models.
    """
    runs = results.runs
    facts = provenance(runs, results.machine, engine)
    shown = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts[:4])
    body = [
        f"<header><h1>{escape(title)}</h1><p class=soft>Ternary weights {{−1, 0, +1}} beside FP32: "
        f"accuracy, size and speed on <strong>{escape(runs[0].dataset)}</strong></p></header>",
        f"<main><dl>{shown}</dl>",
        "<h2>Results</h2>",
        _table(_answer(results), "answer"),
        "<p class=soft>Intervals are Wilson's over the test images; they do not cover what another "
        "seed would change. Bytes are the stored weights (KB = 1000 bytes). Size and speed compare "
        "with the same model in FP32, measured in the same run on the machine above.</p>",
        "<h2>Figures</h2>",
        *(_figure(svgs[name], *text) for name, text in _figure_texts(results).items()),
        "<h2>How to reproduce</h2>",
        *_reproduce(runs[0].git_rev, facts),
        "</main>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}: {escape(runs[0].dataset)}</title>\n<style>{STYLE}</style>\n"
        "</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _table(table: Table, css: str = "") -> str:
    head = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in table.header)
    rows = [
        f"<tr><th scope=row>{escape(row[0])}</th>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    ]
    # Focusable, so that the keyboard can scroll it.
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{escape(table.caption)}">'
        f'<table class="{css} names{table.names}"><caption>{escape(table.caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )


def _answer(results: Results) -> Table:
    runs = results.runs
    header = ["model", "mode", "test accuracy [95% interval]", "Δ to FP32 (points)"]
    header += ["weights", "smaller"]
    groups = by_model_and_mode(runs)
    header += [f"faster, batch {run.batch_size}" for run in groups[0]]
    rows = []
    for run, *more in groups:
        row = [run.model, MODE_NAMES[run.mode], interval(run), difference(run, runs)]
        row += [size(run.bytes), times(run.compression)]
        rows.append(row + [times(timed.speedup) for timed in (run, *more)])
    return Table(f"Accuracy, size and speed on {runs[0].dataset}", header, rows)


def _figure_texts(results: Results) -> dict[str, tuple[str, str, list[Table]]]:
    """Figure name to heading, alternative text and the tables of its data."""
    runs = results.runs
    dataset = runs[0].dataset
    header, rows = results_table(runs)
    groups = by_model_and_mode(runs)
    speeds = ", ".join(
        f"{run.model} {MODE_NAMES[run.mode]} at batch size {run.batch_size} {times(run.speedup)}"
        for run in runs
        if run.mode != "fp32"
    )
    accuracies = ", ".join(
        f"{run.model} {MODE_NAMES[run.mode]} {percent(run.test_accuracy)} with {size(run.bytes)}"
        for run, *_ in groups
    )
    latency = Table(
        f"Latency of a batch on {dataset}",
        ["model", "mode", "batch size", "median", "95th percentile", "speed-up"],
        [
            [
                run.model,
                MODE_NAMES[run.mode],
                str(run.batch_size),
                seconds(run.latency_s),
                seconds(run.latency_p95_s),
                times(run.speedup),
            ]
            for run in runs
        ],
    )
    return {
        "accuracy_bytes.svg": (
            "Accuracy and bytes",
            f"Test accuracy on {dataset} against bytes of stored weights: {accuracies}.",
            [Table(f"All results on {dataset}", header, rows)],
        ),
        "speedup.svg": (
            "Speed-up",
            f"Speed-up over the same model in FP32: {speeds}.",
            [latency],
        ),
        "training_loss.svg": (
            "Training: loss",
            f"Training and validation loss by epoch on {dataset}, a panel for each model.",
            [_curves(results, "loss")],
        ),
        "training_accuracy.svg": (
            "Training: accuracy",
            f"Training and validation accuracy by epoch on {dataset}, a panel for each model.",
            [_curves(results, "accuracy")],
        ),
        "confusion.svg": (
            "Confusion matrices",
            f"Share of each actual class's test images of {dataset} by predicted class, "
            "a panel for each model and mode.",
            [_confusion(confusion) for confusion in results.confusions],
        ),
    }


def _curves(results: Results, metric: str) -> Table:
    rows = []
    for epoch in results.epochs:
        values = [getattr(epoch, f"{split}_{metric}") for split in ("train", "val")]
        texts = [f"{value:.4f}" if metric == "loss" else percent(value) for value in values]
        rows.append([epoch.model, MODE_NAMES[epoch.mode], str(epoch.epoch), *texts])
    header = ["model", "mode", "epoch", f"training {metric}", f"validation {metric}"]
    return Table(f"{metric.capitalize()} by epoch", header, rows)


def _confusion(confusion: Confusion) -> Table:
    rows = [
        [actual, *(str(count) for count in counts)]
        for actual, counts in zip(confusion.classes, confusion.counts, strict=True)
    ]
    caption = f"{confusion.model} {MODE_NAMES[confusion.mode]}: test images by class"
    return Table(caption, ["actual \\ predicted", *confusion.classes], rows, names=1)


def _figure(svg: str, heading: str, alternative: str, tables: Sequence[Table]) -> str:
    # As an image each figure has its own ids: Vega numbers its clip paths alike in all of them.
    data = base64.b64encode(svg.encode()).decode()
    return (
        f"<h3>{escape(heading)}</h3>\n<figure><div class=scroll tabindex=0 role=region "
        f'aria-label="{escape(heading)}, figure"><img alt="{escape(alternative)}" '
        f'src="data:image/svg+xml;base64,{data}"></div>'
        f"<figcaption>{escape(alternative)}</figcaption></figure>\n"
        f"<details><summary>Data of this figure</summary>{''.join(map(_table, tables))}</details>"
    )


def _reproduce(git_rev: str, facts: Sequence[tuple[str, str]]) -> list[str]:
    commit = re.match(r"[0-9a-f]{7,40}", git_rev)
    commands = [f"git checkout {commit[0]}"] if commit else []
    commands += ["make benchmark"]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts[4:])
    text = "In a clone of this project, with its environment installed:"
    if commit and commit[0] != git_rev:
        text = f"The revision was {git_rev}: not all of it is in the commit. " + text
    return [
        f"<p>{escape(text)}</p><pre><code>{escape(chr(10).join(commands))}</code></pre>",
        f"<dl>{rows}</dl>",
        "<p>Accuracies and bytes repeat exactly on one machine with the same versions; latencies "
        "belong to the machine that took them.</p>",
    ]
