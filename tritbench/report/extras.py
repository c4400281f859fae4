"""What a run may have beside its results; a table that is not there is empty."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from tritbench.report.table import EMPTY, NotNegative, csv_rows, read_text, typed_rows


@dataclass(frozen=True)
class Peer:
    """What a user might run instead, at one batch size; None is what was not measured."""

    model: str
    method: str
    batch_size: int
    latency_s: float | None
    speedup: float | None
    bytes: float | None
    test_accuracy: float | None
    test_accuracy_low: float | None
    test_accuracy_high: float | None

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

    model: str
    mode: str
    name: str
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class SweepPoint:
    """Accuracies of PTQ at one threshold, beside FP32's; the first two on the validation images."""

    model: str
    method: str
    threshold: float
    accuracy: float
    fp32_accuracy: float
    test_accuracy: float
    fp32_test_accuracy: float


@dataclass(frozen=True)
class SingleCalls:
    """Calls one by one in fresh processes, seconds; intervals are 95% over the processes."""

    model: str
    mode: str
    batch_size: int
    processes: int
    latency_cold_s: NotNegative
    cold_speedup: NotNegative
    cold_speedup_low: Annotated[NotNegative | None, EMPTY]
    cold_speedup_high: Annotated[NotNegative | None, EMPTY]
    latency_p50_s: NotNegative
    latency_p99_s: NotNegative
    p50_speedup: NotNegative
    p50_speedup_low: Annotated[NotNegative | None, EMPTY]
    p50_speedup_high: Annotated[NotNegative | None, EMPTY]
    run_id: str


def read_single_calls(path: Path, models: Sequence[str], run_id: str) -> list[SingleCalls]:
    """The rows of single_calls.csv of the run `run_id`, by model."""
    found = typed_rows(path, SingleCalls) if path.is_file() else []
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
    if not path.is_file():
        return []
    columns = ("accuracy", "low", "high")
    found = [
        ClassScore(row.text("model"), row.text("mode"), row.text("class"), *map(row.share, columns))
        for row in csv_rows(read_text(path), str(path), ["model", "mode", "class", *columns])
    ]
    return [score for pair in pairs for score in found if (score.model, score.mode) == pair]


def read_peers(path: Path, models: Sequence[str], run_id: str) -> list[Peer]:
    """The rows of peers.csv of the run `run_id`, by model."""
    if not path.is_file():
        return []
    found = [
        Peer(
            model=row.text("model"),
            method=row.text("method"),
            batch_size=row.integer("batch_size", 1),
            **{field.name: row.optional_number(field.name) for field in fields(Peer)[3:]},
        )
        for row in csv_rows(read_text(path), str(path), ["model", "method", "batch_size", "run_id"])
        if row.values["run_id"] == run_id
    ]
    return [peer for model in models for peer in found if peer.model == model]


def read_sweep(path: Path, models: Sequence[str], dataset: str) -> list[SweepPoint]:
    """The rows of sweep.csv on `dataset`, by model; none of a file from before `accuracy`."""
    if not path.is_file():
        return []
    numbers = [field.name for field in fields(SweepPoint)][2:]
    found = [
        SweepPoint(row.text("model"), row.text("method"), *map(row.share, numbers))
        for row in csv_rows(read_text(path), str(path), ["model", "method", "dataset"])
        if row.values["dataset"] == dataset and row.has("accuracy")
    ]
    return [point for model in models for point in found if point.model == model]
