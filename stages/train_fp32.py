"""Train one network in FP32: `python stages/train_fp32.py MODEL`."""

import sys
from pathlib import Path

from tritbench import data, models, parallel, train
from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.params import load_params
from tritbench.provenance import provenance


def main(name: str) -> None:
    """Write models/NAME/fp32.safetensors and benchmarks/training/NAME/fp32.csv."""
    params = load_params()
    if parallel.launch(params.train.launcher):
        return  # several processes did what follows
    device = train.use_device(params.train.device, params.train.threads)
    dataset = data.load(params.data.folder, params.data.validation, params.seed)
    spec = models.InputSpec(dataset.image_shape, dataset.mean, dataset.std)
    classes = dataset.classes
    network = models.build(name, params.model[name], spec.shape, len(classes), params.seed)
    recipe = train.recipe(params, name, device)
    curve = train.fit(
        network,
        dataset.train,
        dataset.validation,
        spec,
        recipe,
        label=f"train_fp32 {name}",
    )
    if parallel.group().rank > 0:
        return  # the first process writes
    path = Path("models") / name / "fp32.safetensors"
    about = provenance(dataset, params, name, recipe.precision, "train")
    models.save_checkpoint(path, models.Checkpoint(network, spec, classes, about))
    write_atomic(Path("benchmarks/training") / name / "fp32.csv", train.curve_csv(curve))
    accuracy = curve[-1].val_accuracy
    print(f"train_fp32: {path}: {accuracy:.2%} on {len(dataset.validation)} validation images")


if __name__ == "__main__":
    with reported("train_fp32"):
        main(sys.argv[1])
