"""From a file to predictions: `load` gives a model that maps images to logits."""

from pathlib import Path

from tritbench.errors import TritbenchError
from tritbench.models import load_checkpoint
from tritbench.packing import load_trit
from tritbench.runtime.reference import Model, from_checkpoint, from_network

__all__ = ["Model", "load"]


def load(path: str | Path) -> Model:
    """The model in a .trit file or an FP32 checkpoint (.safetensors), ready to run.

    `model(images)` takes uint8 images [n, ...] (or floats in 0..1) and gives float32 logits
    [n, classes].

    Raises:
        TritbenchError: naming the file, for anything that is not such a model.
    """
    path = Path(path)
    match path.suffix:
        case ".trit":
            return from_network(load_trit(path))
        case ".safetensors":
            return from_checkpoint(load_checkpoint(path))
    raise TritbenchError(f"{path}: expected a .trit or .safetensors file")
