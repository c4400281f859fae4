"""Accuracies with intervals and tests, and bytes: `python -m zoo.table OUT PARAMS MODEL…`."""

import sys
from pathlib import Path

from tritbench.devices import use_device
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.measure.rows import rows_csv
from tritbench.pipeline.evaluate import SUFFIX, measure, shared_columns
from zoo.fp32 import MODELS, load


def main(out: str, file: str, *names: str) -> None:
    """Write a row for each network and mode that there is a file of; nothing is timed."""
    params, dataset = load(file)
    untimed = params.evaluate.model_copy(update={"latency": False})
    params = params.model_copy(update={"evaluate": untimed})
    use_device("cpu", params.evaluate.threads)
    about = shared_columns(dataset, params.seed, Path())
    rows = []
    for name in names:
        files = {mode: MODELS / name / f"{mode}.{suffix}" for mode, suffix in SUFFIX.items()}
        there = {mode: path for mode, path in files.items() if path.exists()}
        rows += measure(params, name, there, dataset, about).rows
    write_atomic(Path(out), rows_csv(rows))
    print(f"zoo: {out}: {len(rows)} rows")


if __name__ == "__main__":
    with reported("zoo"):
        main(*sys.argv[1:])
