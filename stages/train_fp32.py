"""Train one network in FP32: `python stages/train_fp32.py MODEL`."""

import sys
from pathlib import Path

from tritbench import data, models, parallel, train
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.params import load_params
from tritbench.pipeline.fp32 import train_fp32


def main(name: str) -> None:
    """Write models/NAME/fp32.safetensors and benchmarks/training/NAME/fp32.csv."""
    params = load_params()
    if parallel.launch(params.train.launcher):
        return  # several processes did what follows
    dataset = data.load(params.data.folder, params.data.validation, params.seed)
    checkpoint, curve = train_fp32(params, name, dataset, f"train_fp32 {name}")
    if parallel.group().rank > 0:
        return  # the first process writes
    path = Path("models") / name / "fp32.safetensors"
    models.save_checkpoint(path, checkpoint)
    write_atomic(Path("benchmarks/training") / name / "fp32.csv", train.curve_csv(curve))
    accuracy = curve[-1].val_accuracy
    print(f"train_fp32: {path}: {accuracy:.2%} on {len(dataset.validation)} validation images")


if __name__ == "__main__":
    with reported("train_fp32"):
        main(sys.argv[1])
