"""Accuracies with intervals and tests, and bytes, of the zoo: `python -m zoo.table MODEL…`."""

import sys
from pathlib import Path

from tritbench import data, train
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.measure.rows import rows_csv
from tritbench.params import load_params
from tritbench.pipeline.evaluate import SUFFIX, measure, shared_columns
from zoo.fp32 import MODELS

OUT = Path("benchmarks/zoo.csv")


def main(*names: str) -> None:
    """Write a row for each network and mode; nothing is timed."""
    params = load_params()
    untimed = params.evaluate.model_copy(update={"latency": False})
    params = params.model_copy(update={"evaluate": untimed})
    train.use_device("cpu", params.evaluate.threads)
    dataset = data.load(params.data.folder, params.data.validation, params.seed)
    about = shared_columns(dataset, params.seed, Path())
    rows = []
    for name in names:
        files = {mode: MODELS / name / f"{mode}.{suffix}" for mode, suffix in SUFFIX.items()}
        rows += measure(params, name, files, dataset, about).rows
    write_atomic(OUT, rows_csv(rows))
    print(f"zoo: {OUT}: {len(rows)} rows")


if __name__ == "__main__":
    with reported("zoo"):
        main(*sys.argv[1:])
