"""CSV files that others may have written: a bad value is one clear line that says where it is.

A row is a dataclass whose fields are columns. A field with a default is a column whose cells may be
empty, and that a file may lack unless its metadata are `NEEDED`; they also have the column's name,
as `{"column": …}`, where that is none for a field.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from tritbench import files
from tritbench.errors import TritbenchError
from tritbench.validation import describe, expected

Row = TypeVar("Row")


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise expected("a number from 0 to 1")
    return value


def _text(value: str) -> str:
    if not value.strip():
        raise expected("text")
    return value


def _mode(value: str) -> str:
    if value not in MODES:
        raise expected(f"one of {', '.join(MODES)}")
    return value


MODES = ("fp32", "ptq", "qat")
NEEDED = {"needed": True}
Text = Annotated[str, AfterValidator(_text)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, AfterValidator(_share)]
Mode = Annotated[str, AfterValidator(_mode)]


def read_text(path: Path) -> str:
    """A file as UTF-8.

    Raises:
        TritbenchError: naming the file, where it is missing or not text.
    """
    if not path.exists():
        raise missing(path)
    return files.read_text(path)


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a file, as `parse_rows` gives them."""
    return [row for _, row in parse_rows(read_text(path), str(path), kind)]


def parse_rows(text: str, origin: str, kind: type[Row]) -> Iterator[tuple[str, Row]]:
    """Rows of a dataclass, each after the origin and line, with which errors begin.

    Raises:
        TritbenchError: naming the origin, line, column and value that is wrong or missing.
    """
    adapter = TypeAdapter(kind)
    columns = {each.metadata.get("column", each.name): each for each in fields(cast(Any, kind))}
    full = {column for column, each in columns.items() if each.default is MISSING}
    needed = [c for c, each in columns.items() if c in full or each.metadata.get("needed")]
    for where, values in csv_lines(text, origin, needed):
        given = (c for c in columns if c in full or values.get(c, "").strip())
        try:
            row = adapter.validate_python({columns[c].name: values[c] for c in given})
        except ValidationError as error:
            raise TritbenchError(describe(error, where)) from None
        yield where, row


def csv_lines(
    text: str, origin: str, columns: Sequence[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """The cells of CSV with a header that has at least `columns`, each after origin and line.

    A byte order mark is left out.

    Raises:
        TritbenchError: naming the origin and line.
    """
    try:
        reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
        for column in columns:
            if column not in (reader.fieldnames or ()):
                raise TritbenchError(f"{origin}, line 1: no column {column!r}")
        for values in reader:
            where = f"{origin}, line {reader.line_num}"
            if None in values or None in values.values():
                count = len(reader.fieldnames or ())
                raise TritbenchError(f"{where}: expected {count} values as in the header")
            yield where, values
    except csv.Error as error:
        raise TritbenchError(f"{origin}: not CSV: {error}") from None


def missing(path: Path) -> TritbenchError:
    """The error for a file that an earlier stage should have written."""
    return TritbenchError(f"{path}: no such file; expected what the stages before `report` write")


@dataclass(frozen=True)
class Peer:
    """What a user might run instead, at one batch size; None is what was not measured."""

    model: Text
    method: Text
    batch_size: Positive
    run_id: str
    latency_s: Above | None = None
    speedup: Above | None = None
    bytes: Above | None = None
    test_accuracy: Share | None = None
    test_accuracy_low: Share | None = None
    test_accuracy_high: Share | None = None

    @property
    def mode(self) -> str:
        """Where a run has fp32, ptq or qat."""
        return "peer"


@dataclass(frozen=True)
class Notes:
    """What latency.json says of the measurement.

    Attributes:
        energy: by what it was measured, or why it was not.
        absent: model, peer and why it could not be run.
    """

    energy: str
    absent: list[tuple[str, str, str]]


@dataclass(frozen=True)
class ClassScore:
    """Accuracy on the test images of one class, a share of 1 with its 95% interval."""

    model: Text
    mode: Text
    name: Text = field(metadata={"column": "class"})
    accuracy: Share
    low: Share
    high: Share


@dataclass(frozen=True)
class SweepPoint:
    """Accuracies of PTQ at one threshold, beside FP32's; the first two on the validation images."""

    model: Text
    method: Text
    threshold: Share
    test_accuracy: Share
    fp32_test_accuracy: Share
    dataset: str
    accuracy: Share = 0.0
    fp32_accuracy: Share = 0.0


@dataclass(frozen=True)
class SingleCalls:
    """Calls one by one in fresh processes, seconds; intervals are 95% over the processes."""

    model: str
    mode: str
    batch_size: Positive
    processes: Positive
    latency_cold_s: Above
    cold_speedup: Above
    latency_p50_s: Above
    latency_p99_s: Above
    p50_speedup: Above
    run_id: str
    cold_speedup_low: Above | None = None
    cold_speedup_high: Above | None = None
    p50_speedup_low: Above | None = None
    p50_speedup_high: Above | None = None


OfRun = TypeVar("OfRun", Peer, SingleCalls)


def read_of_run(path: Path, kind: type[OfRun], models: Sequence[str], run_id: str) -> list[OfRun]:
    """The rows of peers.csv or single_calls.csv of the run `run_id`, by model."""
    found = read_rows(path, kind) if path.is_file() else []
    return [row for name in models for row in found if (row.model, row.run_id) == (name, run_id)]


def read_notes(path: Path) -> Notes:
    """The notes in latency.json, which `read_machine` has checked."""
    content = json.loads(read_text(path))
    absent = [
        (model, peer, str(reason))
        for model, reasons in (content.get("absent_peers") or {}).items()
        for peer, reason in reasons.items()
    ]
    return Notes(str(content.get("energy", "")), absent)


def read_class_scores(path: Path, pairs: Sequence[tuple[str, str]]) -> list[ClassScore]:
    """The rows of per_class.csv for `pairs` of model and mode, in their order."""
    found = read_rows(path, ClassScore) if path.is_file() else []
    return [score for pair in pairs for score in found if (score.model, score.mode) == pair]


def read_sweep(path: Path, models: Sequence[str], dataset: str) -> list[SweepPoint]:
    """The rows of sweep.csv on `dataset`, by model; none of a file from before `accuracy`."""
    found = read_rows(path, SweepPoint) if path.is_file() else []
    return [
        point
        for model in models
        for point in found
        if (point.model, point.dataset) == (model, dataset) and point.fp32_accuracy
    ]
