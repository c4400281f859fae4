"""A network of the zoo, trained in FP32 or imported: `python -m zoo.fp32 MODEL [PARAMS]`."""

import sys
from pathlib import Path

from tritbench import data, models
from tritbench.data import Dataset
from tritbench.errors import reported
from tritbench.params import Params, load_params
from tritbench.pipeline.fp32 import train_fp32

MODELS = Path("zoo/models")
PARAMS = "params.yaml"


def main(name: str, file: str = PARAMS) -> None:
    """Write zoo/models/NAME/fp32.safetensors."""
    params, dataset = load(file)
    checkpoint, _ = train_fp32(params, name, dataset, f"{name} fp32")
    models.save_checkpoint(MODELS / name / "fp32.safetensors", checkpoint)


def load(file: str) -> tuple[Params, Dataset]:
    """The parameters in a file, and its data set: the pipeline's own, or the zoo's (zoo.images).

    Training takes a GPU where there is one, whatever the file says of a device.
    """
    params = load_params(Path(file))
    anywhere = params.train.model_copy(update={"device": "auto"})
    params = params.model_copy(update={"train": anywhere})
    folder = params.data.folder if file == PARAMS else Path("zoo") / params.data.folder
    return params, data.load(folder, params.data.validation, params.seed)


if __name__ == "__main__":
    with reported("zoo"):
        main(*sys.argv[1:])
