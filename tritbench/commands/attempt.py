"""`tritbench try`: what ternary weights cost and gain a network, on one's own images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tritbench.attempt import Attempt, Found, LayerCost, attempt
from tritbench.data import Dataset
from tritbench.errors import printable
from tritbench.files import write_atomic
from tritbench.measure.machine import fingerprint
from tritbench.measure.rows import Row, rows_csv
from tritbench.report.runs import parse_runs
from tritbench.report.summary import table_text
from tritbench.report.text import aligned, seconds, times

_LAYERS = 5  # that are shown
REPORT = "report.txt"


def run(asked: Attempt) -> None:
    """Print the answer, and leave it beside the files it is of.

    Raises:
        TritbenchError: naming what cannot be used of network, weights and images.
    """
    text = "\n".join(_report(asked, attempt(asked))) + "\n"
    write_atomic(asked.out / REPORT, text)
    print(printable(text), end="")


def _report(asked: Attempt, found: Found) -> Iterator[str]:
    graph, result = found.checkpoint.graph, found.result
    count = sum(array.size for array in graph.parameters.values())
    yield f"network   {asked.network}, {_from(asked)}: {count:,} parameters, " + (
        f"{graph.products():,} multiplications an image"
    )
    yield f"images    {_images(found.dataset)}"
    yield f"          normalized {found.normalization}"
    yield f"machine   {fingerprint()['cpu']}"
    yield ""
    runs = parse_runs(rows_csv(result.rows), "tritbench try")
    yield table_text(runs, result.engine)
    if asked.latency:
        yield from _fastest(result.rows, result.peers, result.unavailable)
        yield ""
    yield "Ternary alone, these layers disturb the logits most (100%: as much as images do):"
    yield from aligned(_layers(found.layers, graph.products()))
    yield ""
    yield "Intervals are 95%; p is McNemar's exact test against FP32 on the same images, * where it"
    yield "is below 0.05. Validation and calibration images are taken out of the training images."
    files = sorted(path.name for path in asked.out.iterdir() if path.suffix in (".trit", ".csv"))
    yield f"In {asked.out}/: {', '.join([*files, REPORT])}"


def _from(asked: Attempt) -> str:
    return "trained here" if asked.weights is None else f"weights of {asked.weights.name}"


def _images(dataset: Dataset) -> str:
    parts = ", ".join(
        f"{len(getattr(dataset, part)):,} {part}" for part in ("train", "validation", "test")
    )
    shape = "×".join(map(str, dataset.image_shape))
    return f"{dataset.name}: {parts}, {shape}, {len(dataset.classes)} classes"


def _fastest(rows: list[Row], peers: list[Row], unavailable: dict[str, str]) -> Iterator[str]:
    """The fastest of the other runtimes at each batch size, beside the ternary network."""
    others = [row for row in peers if not row["method"].startswith("tritbench")]
    for size in dict.fromkeys(row["batch_size"] for row in rows):
        timed = [r for r in others if r["batch_size"] == size and r["latency_s"] is not None]
        if not timed:
            continue
        best = min(timed, key=lambda row: row["latency_s"])
        ternary = next(r for r in rows if (r["mode"], r["batch_size"]) == ("ptq", size))
        ratio = best["latency_s"] / ternary["latency_s"]
        yield (
            f"batch {size}: the fastest other runtime here is {best['method']}, "
            f"{seconds(best['latency_s'])}; ternary has {times(ratio)} its speed"
        )
    if unavailable:
        yield f"not compared: {'; '.join(f'{name} ({why})' for name, why in unavailable.items())}"


def _layers(layers: Sequence[LayerCost], products: int) -> list[list[str]]:
    rows = [["layer", "", "weights", "multiplications", "error"]]
    for layer in layers[:_LAYERS]:
        share = layer.products / max(1, products)
        rows.append(
            [layer.name, "", f"{layer.weights:,}", f"{share:.0%}", f"{100 * layer.error:.1f}%"]
        )
    return rows


def default_folder(network: str) -> Path:
    """Where the answer goes if nobody says: a folder of the network's name."""
    return Path(f"tritbench-{network.rpartition(':')[2]}")
