"""The runs of git's history and of DVC's experiments: one table and one figure."""

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields

import altair as alt

from tritbench.errors import TritbenchError
from tritbench.report.blocks import Table
from tritbench.report.charts import COLORS, scale
from tritbench.report.figures import svg
from tritbench.report.revisions import WORKSPACE, Revision, commits_of_runs, experiments
from tritbench.report.runs import Run
from tritbench.report.summary import MODE_NAMES, interval, size, speedup
from tritbench.report.templates import TEMPLATES

HEADER = (
    *("revision", "when", "model", "mode", "method", "threshold", "data set"),
    *("test accuracy [95% interval]", "bytes", "batch", "speed-up", "machine"),
)


NAMES = 7  # columns that say what a row is about


@dataclass(frozen=True)
class Entry:
    """One row of a run and where it was found.

    Attributes:
        kind: `commit`, `experiment` or `workspace`.
        here: whether this machine took its latency.
    """

    kind: str
    revision: str
    here: bool
    run: Run


def collect(machine: str) -> tuple[list[Entry], list[str]]:
    """Every run once, oldest first, and what could not be read, in words.

    A run that a commit holds as well as an experiment is the commit's; one that the working tree
    holds alone is the workspace's.

    Args:
        machine: the fingerprint of this one.
    """
    places = [("commit", revision) for revision in commits_of_runs()]
    places += [("experiment", revision) for revision in experiments()]
    places += [("workspace", Revision(WORKSPACE))]
    found: list[Entry] = []
    problems = []
    known: set[str] = set()
    for kind, revision in places:
        try:
            runs = revision.runs()
        except TritbenchError as error:
            problems.append(str(error))
            continue
        if runs[0].run_id not in known:
            known.add(runs[0].run_id)
            here = runs[0].machine == machine
            found += [Entry(kind, revision.name, here, run) for run in runs]
    return sorted(found, key=lambda entry: entry.run.timestamp), problems


def history_rows(entries: Sequence[Entry]) -> list[list[str]]:
    """The cells of the table; a speed-up stands beside the machine that it belongs to."""
    return [
        [
            entry.revision,
            entry.run.timestamp[:16].replace("T", " "),
            entry.run.model,
            MODE_NAMES[entry.run.mode],
            entry.run.method,
            entry.run.threshold,
            entry.run.dataset,
            interval(entry.run),
            size(entry.run.bytes),
            str(entry.run.batch_size),
            speedup(entry.run),
            entry.run.machine + (" (this)" if entry.here else ""),
        ]
        for entry in entries
    ]


def history_csv(entries: Sequence[Entry]) -> str:
    """All columns of every row, after revision, kind and whether this machine timed it."""
    names = [field.name for field in fields(Run)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["revision", "kind", "here", *names])
    for entry in entries:
        values = [getattr(entry.run, name) for name in names]
        writer.writerow(
            [
                str(value).lower() if isinstance(value, bool) else value
                for value in (entry.revision, entry.kind, entry.here, *values)
            ]
        )
    return text.getvalue()


def history_figure(entries: Sequence[Entry]) -> str:
    """SVG: accuracy against bytes, and speed-up over time, a line for each machine."""
    rows = [
        {
            "revision": entry.revision,
            "when": entry.run.timestamp,
            "model": entry.run.model,
            "mode": MODE_NAMES[entry.run.mode],
            "batch": f"batch {entry.run.batch_size}",
            "bytes": entry.run.bytes,
            "accuracy": entry.run.test_accuracy,
            "speedup": entry.run.speedup,
            "machine": f"{entry.run.machine}{' (this)' if entry.here else ''}",
        }
        for entry in entries
    ]
    base = alt.Chart(alt.InlineData(values=rows), width=380, height=300)
    color = alt.Color("mode:N", scale=scale(list(MODE_NAMES.values()), COLORS), title="mode")
    size_axis = alt.X(
        "bytes:Q",
        title="stored weights (bytes)",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(format="~s", tickCount=5),
    )
    accuracy = alt.Y(
        "accuracy:Q",
        title="test accuracy",
        scale=alt.Scale(zero=False),
        axis=alt.Axis(format=".1%"),
    )
    points = base.mark_point(filled=True, size=60).encode(
        x=size_axis, y=accuracy, color=color, shape=alt.Shape("model:N", title="model")
    )
    speeds = base.transform_filter("datum.mode != 'FP32' && datum.speedup != null")
    lines = speeds.mark_line(point=True).encode(
        x=alt.X("when:T", title="time of the run"),
        y=alt.Y("speedup:Q", title="times as fast as FP32"),
        color=color,
        detail=["model:N", "batch:N"],
        strokeDash=alt.StrokeDash("machine:N", title="machine"),
    )
    titled = (
        points.properties(title="Accuracy and bytes"),
        lines.properties(title="Speed-up, by machine"),
    )
    return svg(alt.hconcat(*titled))


def history_html(entries: Sequence[Entry]) -> str:
    """One page that needs no network: figure and table."""
    runs = Table("Every run", HEADER, history_rows(entries), NAMES)
    figure = base64.b64encode(history_figure(entries).encode()).decode()
    return TEMPLATES.get_template("history.html").render(runs=runs, figure=figure)
