"""The FP32 networks that methods are compared with: `python -m methods.baseline MODEL PHASE`."""

import sys
import time
from pathlib import Path

from tritbench import data, models, train
from tritbench.data import Dataset
from tritbench.errors import reported
from tritbench.params import Params, load_params

# Defaults are chosen on the first seeds' validation images and then measured on fresh seeds.
SEEDS = {"selection": range(5), "confirmation": range(5, 10)}


def main(name: str, phase: str) -> None:
    """Train a network with every seed of a phase."""
    params = load_params()
    device = train.use_device(params.train.device, params.train.threads)
    for seed in SEEDS[phase]:
        params = params.model_copy(update={"seed": seed})
        dataset = load(params)
        spec = models.InputSpec(dataset.image_shape, dataset.mean, dataset.std)
        classes = dataset.classes
        network = models.build(name, params.model[name], spec.shape, len(classes), seed)
        recipe = train.recipe(params, name, device)
        label = f"{name} fp32 {seed}"
        start = time.perf_counter()
        train.fit(network, dataset.train, dataset.validation, spec, recipe, label=label)
        about = {"seconds": time.perf_counter() - start}
        path = checkpoint_path(name, phase, seed)
        models.save_checkpoint(path, models.Checkpoint(network, spec, classes, about))
    print(f"fp32: {path.parent}")


def load(params: Params) -> Dataset:
    """The data set, split by the seed."""
    return data.load(params.data.folder, params.data.validation, params.seed)


def checkpoint_path(name: str, phase: str, seed: int) -> Path:
    """Where a float network is."""
    return Path(f"methods/fp32/{name}/{phase}/{seed}.safetensors")


if __name__ == "__main__":
    with reported("methods"):
        main(*sys.argv[1:])
