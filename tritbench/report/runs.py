"""What `evaluate` and the training stages measured, read from their files and checked."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from tritbench.errors import TritbenchError, reading
from tritbench.report.rows import (
    MODES,
    NEEDED,
    Above,
    ClassScore,
    Count,
    Finite,
    Mode,
    Notes,
    Peer,
    Positive,
    Share,
    SingleCalls,
    SweepPoint,
    Text,
    parse_rows,
    read_class_scores,
    read_notes,
    read_of_run,
    read_rows,
    read_sweep,
    read_text,
)

TRAINED_MODES = ("fp32", "qat")
MACHINE_KEYS = ("id", "cpu", "cores", "isa", "python", "torch")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model in one mode at one batch size; accuracies and zeros are shares in [0, 1].

    A run without timing has no latency. Columns with a default came later: the runs of git's
    history lack them.
    """

    model: Text
    mode: Mode
    batch_size: Positive
    accuracy: Share
    loss: Finite
    bytes: Positive
    file_bytes: Positive
    compression: Above
    test_accuracy: Share
    test_accuracy_low: Share
    test_accuracy_high: Share
    threads: Positive
    dataset: Text
    seed: Count
    run_id: Text
    git_rev: Text
    machine: Text
    timestamp: Text
    latency_s: Above | None = field(default=None, metadata=NEEDED)
    latency_p95_s: Above | None = field(default=None, metadata=NEEDED)
    speedup: Above | None = field(default=None, metadata=NEEDED)
    test_loss: Finite | None = None
    ece: Share | None = None
    mcnemar_p: Share | None = None
    flips_lost: Count | None = None
    flips_won: Count | None = None
    latency_iqr_s: Finite | None = None
    latency_p99_s: Above | None = None
    speedup_low: Above | None = None
    speedup_high: Above | None = None
    disturbed: bool = False
    peak_memory_bytes: Count | None = None
    entropy_bits: Finite | None = None
    joules_per_image: Above | None = None
    agreement: Share | None = None
    bits_per_weight: Above | None = None
    zeros: Share | None = None
    method: str = ""
    threshold: str = ""
    reference: str = ""
    granularity: str = ""
    precision: str = ""


@dataclass(frozen=True)
class Epoch:
    """One row of a training curve; losses are means over images, accuracies shares.

    `model` and `mode` are those of the file, which has no such columns.
    """

    epoch: Count
    train_loss: Finite
    train_accuracy: Share
    val_loss: Finite
    val_accuracy: Share
    model: str = ""
    mode: str = ""


@dataclass(frozen=True)
class Counted:
    """Test images of a class that were put into a class."""

    model: Text
    mode: Mode
    actual: Text
    predicted: Text
    count: Count


@dataclass(frozen=True)
class Confusion:
    """Test images of one model and mode by class: `counts[actual][predicted]`."""

    model: str
    mode: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Machine:
    """Where the latencies were taken; `facts` is all that the file says of it, as text."""

    id: str
    cpu: str
    cores: str
    isa: str
    python: str
    torch: str
    caches: str = "unknown"
    governor: str = "unknown"
    virtual: bool = False
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """One line for a reader."""
        details = [
            f"{self.cpu}, {self.cores} {'virtual ' if self.virtual else ''}cores, {self.isa}",
            *([] if self.caches == "unknown" else [f"caches {self.caches}"]),
            *([] if self.governor == "unknown" else [f"governor {self.governor}"]),
            f"Python {self.python}, PyTorch {self.torch} ({self.id})",
        ]
        return ", ".join(details)


@dataclass(frozen=True)
class Results:
    """Everything that the report shows; runs ordered by model, mode and batch size.

    Class scores, peers, single calls and sweep are empty where their file is not there.
    """

    runs: list[Run]
    epochs: list[Epoch]
    confusions: list[Confusion]
    machine: Machine
    engine: str | None
    notes: Notes
    class_scores: list[ClassScore]
    peers: list[Peer]
    sweep: list[SweepPoint]
    single_calls: list[SingleCalls]

    @property
    def models(self) -> list[str]:
        """The models, in their order."""
        return list(dict.fromkeys(run.model for run in self.runs))


def read_results(folder: Path, models: Sequence[str]) -> Results:
    """Read what the report shows of `models` from `folder` (benchmarks/).

    Raises:
        TritbenchError: naming the file, line, column and value that is wrong or missing.
    """
    latency = folder / "latency.json"
    machine, engine = read_machine(latency)
    runs = read_runs(folder / "quantization_runs.csv", models)
    if runs[0].machine != machine.id:
        raise TritbenchError(
            f"{latency}: machine.id = {machine.id!r}: expected {runs[0].machine!r}, "
            "the machine of quantization_runs.csv"
        )
    epochs = [
        epoch
        for model in models
        for mode in TRAINED_MODES
        if any(run.mode == mode for run in runs)
        for epoch in read_epochs(folder / "training" / model / f"{mode}.csv", model, mode)
    ]
    pairs = list(dict.fromkeys((run.model, run.mode) for run in runs))
    return Results(
        runs,
        epochs,
        read_confusions(folder / "confusion.csv", pairs),
        machine,
        engine,
        read_notes(latency),
        read_class_scores(folder / "per_class.csv", pairs),
        read_of_run(folder / "peers.csv", Peer, models, runs[0].run_id),
        read_sweep(folder / "sweep.csv", models, runs[0].dataset),
        read_of_run(folder / "single_calls.csv", SingleCalls, models, runs[0].run_id),
    )


def read_runs(path: Path, models: Sequence[str]) -> list[Run]:
    """The rows of quantization_runs.csv for `models`, ordered by model, mode and batch size."""
    return parse_runs(read_text(path), str(path), models)


def parse_runs(text: str, origin: str, models: Sequence[str] | None = None) -> list[Run]:
    """`read_runs` of a file's content; without `models`, all that are in it.

    Raises:
        TritbenchError: naming the origin, line, column and value that is wrong or missing.
    """
    runs: dict[tuple[str, str, int], Run] = {}
    for where, run in parse_rows(text, origin, Run):
        first = next(iter(runs.values()), run)
        # Latencies compare only within one run on one machine, accuracies within one data set.
        for column in ("dataset", "seed", "run_id", "machine", "threads"):
            if getattr(run, column) != getattr(first, column):
                raise TritbenchError(
                    f"{where}: {column} = {getattr(run, column)!r}: expected "
                    f"{getattr(first, column)!r} as in the rows above"
                )
        key = (run.model, run.mode, run.batch_size)
        if key in runs:
            raise TritbenchError(f"{where}: {key}: expected each model, mode and batch size once")
        runs[key] = run
    if models is None:
        models = list(dict.fromkeys(run.model for run in runs.values()))
    modes = [mode for mode in MODES if any(run.mode == mode for run in runs.values())]
    sizes = sorted({run.batch_size for run in runs.values()})
    wanted = list(product(models, dict.fromkeys(["fp32", *modes]), sizes))
    if not runs:
        raise TritbenchError(f"{origin}: no rows")
    for model, mode, size in wanted:
        if (model, mode, size) not in runs:
            raise TritbenchError(
                f"{origin}: no row for model {model!r}, mode {mode!r}, batch size {size}"
            )
    return [runs[key] for key in wanted]


def read_epochs(path: Path, model: str, mode: str) -> list[Epoch]:
    """The training curve of one model and mode."""
    epochs = [replace(row, model=model, mode=mode) for row in read_rows(path, Epoch)]
    if not epochs:
        raise TritbenchError(f"{path}: no rows; expected one per epoch")
    return epochs


def read_confusions(path: Path, pairs: Sequence[tuple[str, str]]) -> list[Confusion]:
    """The confusion matrix of each (model, mode) in `pairs`; a pair of classes without row is 0."""
    return parse_confusions(read_text(path), str(path), pairs)


def parse_confusions(text: str, origin: str, pairs: Sequence[tuple[str, str]]) -> list[Confusion]:
    """`read_confusions` of a file's content."""
    counts: dict[tuple[str, str], Counter[tuple[str, str]]] = {pair: Counter() for pair in pairs}
    classes: dict[str, None] = {}
    for _, row in parse_rows(text, origin, Counted):
        pair, cell = (row.model, row.mode), (row.actual, row.predicted)
        if pair in counts:
            counts[pair][cell] += row.count
            classes.update(dict.fromkeys(cell))
    for pair, cells in counts.items():
        if not cells:
            raise TritbenchError(f"{origin}: no rows for model {pair[0]!r}, mode {pair[1]!r}")
    names = tuple(classes)
    return [
        Confusion(*pair, names, tuple(tuple(cells[a, p] for p in names) for a in names))
        for pair, cells in counts.items()
    ]


def read_machine(path: Path) -> tuple[Machine, str | None]:
    """The machine in latency.json, and the engine of the ternary models if it is named there."""
    text = read_text(path)
    with reading(f"{path}: not JSON"):
        content = json.loads(text)
    machine = content.get("machine") if isinstance(content, dict) else None
    if not isinstance(machine, dict):
        raise TritbenchError(f"{path}: machine = {machine!r}: expected a mapping")
    for key in MACHINE_KEYS:
        if not isinstance(machine.get(key), str | int) or not str(machine[key]).strip():
            raise TritbenchError(f"{path}: machine.{key} = {machine.get(key)!r}: expected text")
    engine = content.get("engine")
    found = Machine(
        **{key: str(machine[key]) for key in MACHINE_KEYS},
        caches=str(machine.get("caches", "unknown")),
        governor=str(machine.get("governor", "unknown")),
        virtual=machine.get("virtual") is True,
        facts={str(key): str(value) for key, value in machine.items()},
    )
    return found, engine and str(engine)
