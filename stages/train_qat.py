"""Train one network with ternary weights: `python stages/train_qat.py MODEL`."""

import sys
from pathlib import Path

from tritbench import data, models, parallel, train
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.params import load_params
from tritbench.pipeline.qat import train_qat
from tritbench.pipeline.ternary import write_ternary


def main(name: str) -> None:
    """Write models/NAME/qat.trit and benchmarks/training/NAME/qat.csv."""
    params = load_params()
    if parallel.launch(params.train.launcher):
        return  # several processes did what follows
    dataset = data.load(params.data.folder, params.data.validation, params.seed)
    path = Path("models") / name / "qat.trit"
    checkpoint = models.load_checkpoint(path.with_name("fp32.safetensors"))
    quantized, curve = train_qat(params, name, dataset, checkpoint, f"train_qat {name}")
    if parallel.group().rank > 0:
        return  # the first process writes
    write_ternary(path, quantized, checkpoint, dataset, params, name)
    write_atomic(Path("benchmarks/training") / name / "qat.csv", train.curve_csv(curve))
    accuracy, size = curve[-1].val_accuracy, path.stat().st_size
    print(f"train_qat: {path}: {size:,} bytes, {accuracy:.2%} on validation")


if __name__ == "__main__":
    with reported("train_qat"):
        main(sys.argv[1])
