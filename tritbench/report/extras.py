"""What a run may have beside its results; a table that is not there is empty."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tritbench.report.table import Above, Positive, Share, Text, read_rows, read_text


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


def read_single_calls(path: Path, models: Sequence[str], run_id: str) -> list[SingleCalls]:
    """The rows of single_calls.csv of the run `run_id`, by model."""
    found = read_rows(path, SingleCalls) if path.is_file() else []
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


def read_peers(path: Path, models: Sequence[str], run_id: str) -> list[Peer]:
    """The rows of peers.csv of the run `run_id`, by model."""
    found = read_rows(path, Peer) if path.is_file() else []
    return [row for name in models for row in found if (row.model, row.run_id) == (name, run_id)]


def read_sweep(path: Path, models: Sequence[str], dataset: str) -> list[SweepPoint]:
    """The rows of sweep.csv on `dataset`, by model; none of a file from before `accuracy`."""
    found = read_rows(path, SweepPoint) if path.is_file() else []
    return [
        point
        for model in models
        for point in found
        if (point.model, point.dataset) == (model, dataset) and point.fp32_accuracy
    ]
