"""What the methods give over the seeds, and PTQ over thresholds: tables of the measured rows."""

import csv
import io
from pathlib import Path
from typing import Any

from tritbench.data import read_description
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.params import Params, load_params
from tritbench.report import seeds
from tritbench.report.figures import threshold_curves

RESULTS = Path("methods/results")
OUT = Path("benchmarks")
KINDS = ("ptq", "control", "qat", "confirm")  # folders of results, in the order of the tables


def main() -> None:
    """Write the rows of every network and what follows from them; PTQ over thresholds."""
    params = load_params()
    raw = OUT / "methods_raw.csv"
    write_atomic(raw, rows_csv(params))
    for path, content in tables(raw, params).items():
        write_atomic(path, content)
    write_atomic(OUT / "sweep.csv", threshold_curve(params))
    write_atomic(OUT / "thresholds.svg", thresholds(params))
    print(f"table: {raw}, {OUT / 'methods.csv'}, {OUT / 'thresholds.svg'}")


def rows_csv(params: Params) -> str:
    """Every measured row, by model, as CSV."""
    files = [f for kind in KINDS for f in sorted((RESULTS / kind).glob("*.csv"))]
    measured = [row for file in files for row in read(file)]
    found = [row for name in params.models for row in measured if row["model"] == name]
    text = io.StringIO()
    writer = csv.DictWriter(text, found[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def tables(raw: Path, params: Params) -> dict[Path, str]:
    """What follows from the rows alone: methods.csv, methods.md, confirmation.md."""
    rows = seeds.read_seeds(raw)
    chosen = [("ptq", params.ptq.method), ("qat", params.qat.method)]
    selection = seeds.summaries(rows, "selection")
    confirmation = seeds.summaries(rows, "confirmation")
    return {
        OUT / "methods.csv": seeds.summaries_csv([*selection, *confirmation], chosen),
        OUT / "methods.md": seeds.summaries_markdown(selection, chosen),
        OUT / "confirmation.md": seeds.summaries_markdown(confirmation, chosen),
    }


def threshold_curve(params: Params) -> str:
    """Accuracies of each model, method and threshold as CSV, which the report shows."""
    dataset = read_description(params.data.folder).name
    accuracies = ("accuracy", "fp32_accuracy", "test_accuracy", "fp32_test_accuracy")
    columns = ("method", "threshold", *accuracies)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", *columns, "dataset"])
    for name in params.models:
        for run in read(RESULTS / "threshold_curve" / f"{name}.csv"):
            writer.writerow([name, *(run[column] for column in columns), dataset])
    return text.getvalue()


def thresholds(params: Params) -> str:
    """Validation accuracy by threshold as SVG, a panel for each model, a line for each method."""
    rows: list[dict[str, Any]] = []
    for name in params.models:
        runs = read(RESULTS / "threshold_curve" / f"{name}.csv")
        rows += [
            {
                "model": name,
                "method": run["method"],
                "threshold": float(run["threshold"]),
                "accuracy": float(run["accuracy"]),
            }
            for run in runs
        ]
        fp32 = float(runs[0]["fp32_accuracy"])
        rows.append({"model": name, "method": "FP32", "threshold": None, "accuracy": fp32})
    return threshold_curves(rows, "PTQ by threshold, validation images (dashed: FP32), one seed")


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    with reported("table"):
        main()
