"""Train one network with ternary weights: `python stages/train_qat.py MODEL`."""

import sys
from pathlib import Path

from tritbench import data, models, parallel, train
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.packing import save_trit
from tritbench.params import load_params
from tritbench.provenance import provenance
from tritbench.quantize import train_qat
from tritbench.runtime.half import half_arrays


def main(name: str) -> None:
    """Write models/NAME/qat.trit and benchmarks/training/NAME/qat.csv."""
    params = load_params()
    if parallel.launch(params.train.launcher):
        return  # several processes did what follows
    device = train.use_device(params.train.device, params.train.threads)
    dataset = data.load(params.data.folder, params.data.validation, params.seed)
    folder = Path("models") / name
    checkpoint = models.load_checkpoint(folder / "fp32.safetensors")
    network = checkpoint.model
    if params.qat.start == "scratch":
        shape, classes = checkpoint.input.shape, len(checkpoint.classes)
        network = models.build(name, params.model[name], shape, classes, params.seed)
    recipe = train.qat_recipe(params, name, device)
    quantized, curve = train_qat(
        network,
        dataset.train,
        dataset.validation,
        checkpoint.input,
        params.quantize,
        params.qat,
        recipe,
        teacher=checkpoint.model,
        label=f"train_qat {name}",
    )
    if parallel.group().rank > 0:
        return  # the first process writes
    path = folder / "qat.trit"
    about = provenance(dataset, params, name, recipe.precision, "train", "quantize", "qat")
    half = half_arrays(quantized, checkpoint.input, dataset.validation.pixels)
    codec = params.packing.codec
    save_trit(path, quantized, checkpoint.input, checkpoint.classes, about, codec, half)
    write_atomic(Path("benchmarks/training") / name / "qat.csv", train.curve_csv(curve))
    accuracy, size = curve[-1].val_accuracy, path.stat().st_size
    print(f"train_qat: {path}: {size:,} bytes, {accuracy:.2%} on validation")


if __name__ == "__main__":
    with reported("train_qat"):
        main(sys.argv[1])
