"""A built-in network that is more than a chain, trained in FP32: `python -m zoo.fp32 MODEL`."""

import sys
from pathlib import Path

from tritbench import data, models
from tritbench.errors import reported
from tritbench.params import load_params
from tritbench.pipeline.fp32 import train_fp32

MODELS = Path("zoo/models")


def main(name: str) -> None:
    """Write zoo/models/NAME/fp32.safetensors."""
    params = load_params()
    dataset = data.load(params.data.folder, params.data.validation, params.seed)
    checkpoint, _ = train_fp32(params, name, dataset, f"{name} fp32")
    models.save_checkpoint(MODELS / name / "fp32.safetensors", checkpoint)


if __name__ == "__main__":
    with reported("zoo"):
        main(sys.argv[1])
