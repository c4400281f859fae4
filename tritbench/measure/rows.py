"""Measurements as rows of CSV and as metrics for `dvc metrics diff`."""

import codecs
import csv
import fcntl
import io
import os
import sys
from collections.abc import Iterable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from tritbench.errors import TritbenchError
from tritbench.git import git, git_object
from tritbench.params import Params

Row = dict[str, Any]

COLUMNS = (
    "model",
    "mode",
    "batch_size",
    "accuracy",
    "loss",
    "latency_s",
    "bytes",
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "test_loss",
    "ece",
    "mcnemar_p",
    "flips_lost",
    "flips_won",
    "latency_iqr_s",
    "latency_p95_s",
    "latency_p99_s",
    "disturbed",
    "speedup",
    "speedup_low",
    "speedup_high",
    "joules_per_image",
    "compression",
    "file_bytes",
    "peak_memory_bytes",
    "bits_per_weight",
    "entropy_bits",
    "zeros",
    "agreement",
    "reference_accuracy",
    "engine_accuracy_delta",
    "reference_latency_s",
    "method",
    "threshold",
    "reference",
    "granularity",
    "precision",
    "threads",
    "dataset",
    "seed",
    "run_id",
    "git_rev",
    "machine",
    "timestamp",
)
# Those of them that say how a network was made.
RECIPE = ("method", "threshold", "reference", "granularity")
METRICS = {
    "accuracy": (
        "accuracy",
        "loss",
        "test_accuracy",
        "test_accuracy_low",
        "test_accuracy_high",
        "test_loss",
        "ece",
        "mcnemar_p",
        "flips_lost",
        "flips_won",
        "agreement",
        "reference_accuracy",
        "engine_accuracy_delta",
    ),
    "storage": ("bytes", "file_bytes", "bits_per_weight", "entropy_bits", "zeros", "compression"),
    "latency": (
        "latency_s",
        "latency_iqr_s",
        "latency_p95_s",
        "latency_p99_s",
        "disturbed",
        "speedup",
        "speedup_low",
        "speedup_high",
        "reference_latency_s",
        "joules_per_image",
    ),
}
# What the pipeline itself changes in a checkout, as git's pathspecs that leave it out.
WRITTEN = (":!dvc.lock", ":!inputs", ":!benchmarks", ":!docs/diagrams")
# Digits beyond a figure's precision are noise in a diff.
DECIMALS = dict.fromkeys(("speedup", "speedup_low", "speedup_high", "compression"), 3)
DECIMALS |= dict.fromkeys(("bits_per_weight", "entropy_bits"), 4)
DECIMALS |= dict.fromkeys(
    (
        "accuracy",
        "low",
        "high",
        "loss",
        "test_accuracy",
        "test_accuracy_low",
        "test_accuracy_high",
        "test_loss",
        "ece",
        "reference_accuracy",
        "engine_accuracy_delta",
        "zeros",
        "agreement",
    ),
    5,
)


def rows_csv(rows: Iterable[Row]) -> str:
    """Header and rows."""
    return _lines([list(COLUMNS), *(_cells(row) for row in rows)])


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a CSV file, with a header where it is new; safe when several processes do.

    All of them are written or none. Half a row that a killed writer left is removed. Without rows
    this tells whether the file will take them.

    Raises:
        TritbenchError: where the file has other columns.
        OSError: naming the file, which is what it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
        file.seek(0)
        content = file.readall()
        header = content.removeprefix(codecs.BOM_UTF8).partition(b"\n")[0].decode(errors="replace")
        if content and header.rstrip("\r") != ",".join(COLUMNS):
            raise TritbenchError(f"{path}: {_other_columns(header)}; expected a new file")
        text = _lines([*([] if content else [list(COLUMNS)]), *map(_cells, rows)])
        end = content.rfind(b"\n") + 1
        if last := content[end:].decode(errors="replace"):
            if len(next(csv.reader([last]))) == len(COLUMNS):  # an editor left its end out
                text = f"\n{text}"
            else:
                file.truncate(end)
        _write_whole(file, text.encode(), path)


def _other_columns(header: str) -> str:
    found = header.rstrip("\r").split(",")
    lacking = ", ".join(column for column in COLUMNS if column not in found)
    unknown = ", ".join(repr(column) for column in found if column not in COLUMNS)
    facts = (lacking and f"without {lacking}", unknown and f"with {unknown}")
    return f"its columns are not this version's: {' and '.join(filter(None, facts)) or 'reordered'}"


def _write_whole(file: FileIO, data: bytes, path: Path) -> None:
    size, left = os.fstat(file.fileno()).st_size, memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())
    except BaseException as error:
        file.truncate(size)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def table_csv(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """Rows with columns of their own; where there may be no row, `columns` names them."""
    header = list(columns or rows[0])
    return _lines([header, *([rounded(key, row[key]) for key in header] for row in rows)])


def brief_metrics(rows: Sequence[Row]) -> dict[str, Any]:
    """The few figures that DVC's tables show, at the first batch size.

    DATASET.MODEL.MODE.metric: `acc` is the test accuracy in percent, `bytes` the stored weights;
    DATASET.MODEL.MODE.metric.MACHINE: `us` microseconds a batch, `faster` FP32's in the same run
    over them. What names it differently, DVC takes for different figures: it never subtracts those
    of two data sets or two machines.
    """
    brief: dict[str, Any] = {}
    for row in rows:
        if row["batch_size"] != rows[0]["batch_size"]:
            continue
        found: Row = {"acc": round(100 * row["test_accuracy"], 2), "bytes": row["bytes"]}
        if row["latency_s"] is not None:
            found["us"] = {row["machine"]: float(f"{1e6 * row['latency_s']:.3g}")}
        if row["mode"] == "fp32":
            del found["bytes"]  # a matter of the network alone
        elif row["speedup"] is not None:
            found["faster"] = {row["machine"]: float(f"{row['speedup']:.3g}")}
        of_dataset = brief.setdefault(row["dataset"], {})
        of_dataset.setdefault(row["model"], {})[row["mode"]] = found
    return brief


def metrics_json(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """The rows as DATASET.MODEL.MODE.metric for accuracy and storage, by batch size for latency.

    Latency has no DATASET before it, and what was not timed has no entry there.
    """
    files: dict[str, dict[str, Any]] = {name: {} for name in METRICS}
    for row in rows:
        for name, keys in METRICS.items():
            values = {key: rounded(key, row[key]) for key in keys if row[key] is not None}
            if not values:
                continue
            timed = name == "latency"
            models = files[name] if timed else files[name].setdefault(row["dataset"], {})
            modes = models.setdefault(row["model"], {}).setdefault(row["mode"], {})
            modes.update({f"batch_{row['batch_size']}": values} if timed else values)
    return files


def rounded(column: str, value: Any) -> Any:
    """A value at the precision that its column has: decimals, or else four digits."""
    if not isinstance(value, float):
        return value
    if column in DECIMALS:
        return round(value, DECIMALS[column])
    return float(f"{value:.4g}")


def recipes(params: Params, name: str) -> dict[str, Row]:
    """The columns of RECIPE by mode: the parameters of a network as they were set, as text."""
    params = params.of(name)
    shared = {key: str(value) for key, value in params.quantize if key in RECIPE}
    methods = {"ptq": params.ptq.method, "qat": params.qat.method}
    rows: dict[str, Row] = {mode: {"method": m, **shared} for mode, m in methods.items()}
    if "weights" in params.model[name]:  # those of others, which were not trained here
        rows["fp32"] = {"method": "imported"}
    return rows


def git_revision(folder: Path) -> str:
    """Short hash of HEAD; `-dirty` where more differs than a run writes; `unknown` without one.

    What git refuses to look at is said on stderr, and `unknown` as well.
    """
    try:
        if git_object("HEAD", folder) is None:
            return "unknown"
        head = git("rev-parse", "--short", "HEAD", folder=folder)
        tracked = ("status", "--porcelain", "--untracked-files=no")
        changed = git(*tracked, "--", ".", *WRITTEN, folder=folder)
    except TritbenchError as error:
        print(f"the revision is unknown: {error}", file=sys.stderr)
        return "unknown"
    return f"{head}-dirty" if changed else head


def _cells(row: Row) -> list[Any]:
    values = [rounded(column, row[column]) for column in COLUMNS]
    return [str(value).lower() if isinstance(value, bool) else value for value in values]


def _lines(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
