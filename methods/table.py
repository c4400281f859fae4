"""Mean and standard deviation of each method over the seeds, and PTQ over thresholds."""

import csv
import io
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from tritbench.data.dataset import read_description
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.params import Params, load_params
from tritbench.report.figures import threshold_curves

RESULTS = Path("methods/results")
OUT = Path("benchmarks")
COLUMNS = (
    "model", "mode", "method", "seeds", "test_accuracy_mean", "test_accuracy_std", "delta_mean",
    "delta_std", "zeros", "seconds", "is_default",
)  # fmt: skip


def main() -> None:
    """Write benchmarks/methods.csv, methods.md, sweep.csv and thresholds.svg."""
    params = load_params()
    rows = [row for mode in ("ptq", "qat") for row in summaries(params, mode)]
    write_atomic(OUT / "methods.csv", table(rows))
    write_atomic(OUT / "methods.md", markdown(rows))
    write_atomic(OUT / "sweep.csv", sweep(params))
    write_atomic(OUT / "thresholds.svg", thresholds(params))
    print(f"table: {OUT / 'methods.csv'}: {len(rows)} rows; {OUT / 'thresholds.svg'}")


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def sweep(params: Params) -> str:
    """Test accuracy of each model, method and threshold as CSV, which the report shows."""
    dataset = read_description(params.data.folder).name
    columns = ("method", "threshold", "test_accuracy", "fp32_test_accuracy")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", *columns, "dataset"])
    for name in params.models:
        for run in read(RESULTS / "sweep" / f"{name}.csv"):
            writer.writerow([name, *(run[column] for column in columns), dataset])
    return text.getvalue()


def summaries(params: Params, mode: str) -> list[dict[str, Any]]:
    """A row for FP32 (once, before PTQ) and each method, models in the order of params.yaml."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for path in sorted((RESULTS / mode).glob("*.csv")):
        model, method = path.stem.rsplit("-", 1)
        found[model, method] = read(path)
    default = params.ptq.method if mode == "ptq" else params.qat.method
    rows = []
    for name in params.models:
        methods = [method for model, method in found if model == name]
        if mode == "ptq":
            runs = found[name, methods[0]]
            rows.append(summary(name, "fp32", "fp32", runs, is_default=True))
        rows += [summary(name, mode, m, found[name, m], m == default) for m in methods]
    return rows


def summary(
    model: str, mode: str, method: str, runs: list[dict[str, str]], is_default: bool
) -> dict[str, Any]:
    """Accuracies as shares of 1, differences to FP32 of the same seed in points."""
    prefix = "fp32_" if mode == "fp32" else ""
    accuracies = [float(run[f"{prefix}test_accuracy"]) for run in runs]
    deltas = [
        100 * (accuracy - float(run["fp32_test_accuracy"]))
        for accuracy, run in zip(accuracies, runs, strict=True)
    ]
    return {
        "model": model,
        "mode": mode,
        "method": method,
        "seeds": len(runs),
        "test_accuracy_mean": round(mean(accuracies), 5),
        "test_accuracy_std": round(stdev(accuracies), 5),
        "delta_mean": round(mean(deltas), 3),
        "delta_std": round(stdev(deltas), 3),
        "zeros": "" if prefix else round(mean(float(run["zeros"]) for run in runs), 4),
        "seconds": round(mean(float(run[f"{prefix}seconds"]) for run in runs), 2),
        "is_default": str(is_default).lower(),
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table; defaults in bold."""
    lines = [
        "| model | mode | method | test accuracy | Δ to FP32 (points) | zeros | seconds |",
        "| :-- | :-- | :-- | --: | --: | --: | --: |",
    ]
    for row in rows:
        fp32 = row["mode"] == "fp32"
        method = f"**{row['method']}**" if row["is_default"] == "true" else row["method"]
        delta = "–" if fp32 else f"{row['delta_mean']:+.2f} ± {row['delta_std']:.2f}"
        zeros = "–" if fp32 else f"{row['zeros']:.1%}"
        lines.append(
            f"| {row['model']} | {row['mode'].upper()} | {'–' if fp32 else method} "
            f"| {row['test_accuracy_mean']:.2%} ± {100 * row['test_accuracy_std']:.2f} "
            f"| {delta} | {zeros} | {row['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def thresholds(params: Params) -> str:
    """Test accuracy against threshold as SVG, a panel for each model, a line for each method."""
    rows: list[dict[str, Any]] = []
    for name in params.models:
        runs = read(RESULTS / "sweep" / f"{name}.csv")
        rows += [
            {
                "model": name,
                "method": run["method"],
                "threshold": float(run["threshold"]),
                "accuracy": float(run["test_accuracy"]),
            }
            for run in runs
        ]
        fp32 = float(runs[0]["fp32_test_accuracy"])
        rows.append({"model": name, "method": "FP32", "threshold": None, "accuracy": fp32})
    return threshold_curves(rows, "PTQ accuracy against threshold (dashed: FP32), one seed")


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    with reported("table"):
        main()
