"""The ternary file of a quantized network."""

from pathlib import Path

import torch

from tritbench.data import Dataset
from tritbench.models import Checkpoint
from tritbench.packing import save_trit
from tritbench.packing.half import half_arrays
from tritbench.params import Params
from tritbench.precision import choose
from tritbench.provenance import precision_of, provenance
from tritbench.quantize import Quantized


def write_ternary(
    path: Path,
    quantized: Quantized,
    checkpoint: Checkpoint,
    dataset: Dataset,
    params: Params,
    name: str,
) -> None:
    """Write a .trit file, `ptq.trit` or `qat.trit`, with its provenance.

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
    save_trit(path, quantized, spec, checkpoint.classes, about, own.packing.codec, half)
