"""The ternary file of a quantized network."""

from pathlib import Path

import torch

from tritbench.data import Dataset, calibration_images
from tritbench.models import Checkpoint
from tritbench.packing import save_trit
from tritbench.packing.calibration import IMAGES
from tritbench.packing.half import half_arrays
from tritbench.params import Params
from tritbench.precision import choose
from tritbench.provenance import precision_of, provenance
from tritbench.quantize import Quantized

_BATCH = 64


def write_ternary(
    path: Path,
    quantized: Quantized,
    checkpoint: Checkpoint,
    dataset: Dataset,
    params: Params,
    name: str,
) -> None:
    """Write a .trit file, `ptq.trit` or `qat.trit`, with its provenance and static ranges.

    Raises:
        TritbenchError: naming an array with a value that is not finite.
    """
    own, spec = params.of(name), checkpoint.input
    precision = precision_of(checkpoint.provenance)
    if path.stem == "qat":
        cuda = own.train.device != "cpu" and torch.cuda.is_available()
        precision = choose(own.train.precision, "cuda" if cuda else "cpu")
    about = provenance(dataset, own, name, precision, "train", "quantize", path.stem)
    half = half_arrays(quantized, spec, dataset.validation.pixels)
    images = calibration_images(dataset, IMAGES, own.seed)
    batches = [spec.normalize(batch) for batch in images.split(_BATCH)]
    codec = own.packing.codec
    save_trit(path, quantized, spec, checkpoint.classes, about, codec, half, batches)
