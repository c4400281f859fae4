"""Revisions with results of their own, and all of them in one table and figure."""

import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import altair as alt
import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.files import parse_yaml
from tritbench.git import git, git_bytes, git_object
from tritbench.report.blocks import TEMPLATES, Table
from tritbench.report.charts import COLORS, scale
from tritbench.report.figures import svg
from tritbench.report.runs import Run, parse_runs
from tritbench.report.summary import MODE_NAMES, interval, speedup
from tritbench.report.text import size

RUNS = "benchmarks/quantization_runs.csv"
PREDICTIONS = "benchmarks/predictions.npz"
WORKSPACE = "workspace"
EXPERIMENTS = "refs/exps"
# DVC's own bookkeeping beside the experiments.
NOT_EXPERIMENTS = ("refs/exps/exec", "refs/exps/stash", "refs/exps/temp", "refs/exps/apply")


@dataclass(frozen=True)
class Revision:
    """A commit by the name that was asked for; without a commit, the working tree."""

    name: str
    commit: str | None = None

    def read(self, path: str) -> bytes | None:
        """A file's content, its path relative to the working directory; none where it is not.

        Raises:
            GitError: where git cannot look.
        """
        if self.commit is None:
            return Path(path).read_bytes() if Path(path).is_file() else None
        blob = git_object(f"{self.commit}:./{path}")
        return None if blob is None else git_bytes("cat-file", "blob", blob)

    def text(self, path: str) -> str:
        """A file's content as text.

        Raises:
            TritbenchError: naming revision and file, where there is none.
        """
        content = self.read(path)
        if content is None:
            raise TritbenchError(f"{self.name}: no {path} in it; expected a run's results")
        return content.decode(errors="replace")

    def runs(self) -> list[Run]:
        """The rows of quantization_runs.csv.

        Raises:
            TritbenchError: naming revision, file, line, column and value.
        """
        return parse_runs(self.text(RUNS), f"{self.name}:{RUNS}")


@dataclass(frozen=True)
class Answers:
    """Labels [n] of the test images and, by model and mode, bool [n]: whether it is right."""

    labels: NDArray[np.int64]
    right: dict[tuple[str, str], NDArray[np.bool_]]


def find_revision(name: str) -> Revision:
    """A git revision, or a DVC experiment by its name.

    Raises:
        GitError: where git cannot look.
        TritbenchError: where there is none of that name, or more than one experiment.
    """
    commit = git_object(f"{name}^{{commit}}")
    if commit is not None:
        return Revision(name, commit)
    found = [revision for revision in experiments() if revision.name == name]
    if len(found) != 1:
        what = "experiments of that name; give its commit" if found else "commit or experiment"
        raise TritbenchError(f"{name}: {len(found) or 'no such'} {what}")
    return found[0]


def experiments() -> list[Revision]:
    """DVC's experiments in this repository, by name."""
    listed = git("for-each-ref", "--format=%(objectname) %(refname)", EXPERIMENTS)
    refs = [line.split(" ", 1) for line in listed.splitlines()]
    return [
        Revision(ref.rsplit("/", 1)[-1], commit)
        for commit, ref in refs
        if not ref.startswith(NOT_EXPERIMENTS)
    ]


def commits_of_runs() -> list[Revision]:
    """The commits of HEAD's history that changed quantization_runs.csv, oldest first."""
    if git_object("HEAD") is None:
        return []
    lines = git("log", "--reverse", "--format=%h %H", "--", RUNS).splitlines()
    return [Revision(*line.split()) for line in lines]


def answers(revision: Revision, runs: Sequence[Run]) -> Answers | None:
    """Which test images each model gets right.

    Predictions lie in DVC's cache under their hash in the revision's dvc.lock. None where they are
    not there, or are not those of `runs`.
    """
    content = revision.read(PREDICTIONS) if revision.commit is None else _cached(revision)
    try:
        with np.load(io.BytesIO(content or b"")) as arrays:
            labels = arrays["labels"]
            right = {
                (run.model, run.mode): arrays[f"{run.model}.{run.mode}"].argmax(1) == labels
                for run in runs
            }
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
        return None
    if any(
        abs(float(right[run.model, run.mode].mean()) - run.test_accuracy) > 1e-5 for run in runs
    ):
        return None
    return Answers(labels, right)


def _cached(revision: Revision) -> bytes | None:
    text = (revision.read("dvc.lock") or b"{}").decode(errors="replace")
    lock = parse_yaml(text, f"{revision.name}:dvc.lock")
    outs = lock.get("stages", {}).get("evaluate", {}).get("outs", [])
    digests = [out["md5"] for out in outs if out.get("path") == PREDICTIONS and "md5" in out]
    if not digests:
        return None
    asked = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True)
    path = Path(asked.stdout.decode().strip()) / "files/md5" / digests[0][:2] / digests[0][2:]
    if asked.returncode or not path.is_file():
        return None
    content = path.read_bytes()
    return content if hashlib.md5(content).hexdigest() == digests[0] else None


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
