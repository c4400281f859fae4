"""The FP32 networks that methods are compared with: `python -m methods.baseline MODEL PHASE`."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from tritbench import data, models
from tritbench.data import Dataset
from tritbench.errors import reported
from tritbench.params import Params, load_params
from tritbench.pipeline.fp32 import train_fp32

# Defaults are chosen on the first seeds' validation images and then measured on fresh seeds.
SEEDS = {"selection": range(5), "confirmation": range(5, 10)}


def main(name: str, phase: str) -> None:
    """Train a network with every seed of a phase."""
    params = load_anywhere()
    for seed in SEEDS[phase]:
        params = params.model_copy(update={"seed": seed})
        start = time.perf_counter()
        checkpoint, _ = train_fp32(params, name, load(params), f"{name} fp32 {seed}")
        about = checkpoint.provenance | {"seconds": time.perf_counter() - start}
        path = checkpoint_path(name, phase, seed)
        models.save_checkpoint(path, replace(checkpoint, provenance=about))
    print(f"fp32: {path.parent}")


def load_anywhere() -> Params:
    """params.yaml, but that training takes a GPU where there is one: else it takes hours."""
    params = load_params()
    anywhere = params.train.model_copy(update={"device": "auto"})
    return params.model_copy(update={"train": anywhere})


def load(params: Params) -> Dataset:
    """The data set, split by the seed."""
    return data.load(params.data.folder, params.data.validation, params.seed)


def checkpoint_path(name: str, phase: str, seed: int) -> Path:
    """Where a float network is."""
    return Path(f"methods/fp32/{name}/{phase}/{seed}.safetensors")


if __name__ == "__main__":
    with reported("methods"):
        main(*sys.argv[1:])
