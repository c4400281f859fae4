"""Measure all models in all modes, in one run on one machine."""

from pathlib import Path

from tritbench import data
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.params import load_params
from tritbench.pipeline.evaluate import evaluate

OUT = Path("benchmarks")


def main() -> None:
    """Write what benchmarks/ says about the artifacts in models/."""
    params = load_params()
    dataset = data.load(params.data.folder, params.data.validation, params.seed)
    for name, content in evaluate(params, dataset, Path("models")).items():
        write_atomic(OUT / name, content)
    print(f"evaluate: {OUT}/quantization_runs.csv: {dataset.name}")


if __name__ == "__main__":
    with reported("evaluate"):
        main()
