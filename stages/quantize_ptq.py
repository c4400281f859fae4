"""Make one trained network ternary without training: `python stages/quantize_ptq.py MODEL`."""

import sys
import time
from pathlib import Path

from tritbench import data, models, train
from tritbench.errors import reported
from tritbench.graph import capture
from tritbench.packing import save_trit
from tritbench.params import load_params
from tritbench.provenance import precision_of, provenance
from tritbench.quantize import quantize_ptq
from tritbench.runtime.half import half_arrays


def main(name: str) -> None:
    """Write models/NAME/ptq.trit."""
    params = load_params()
    train.use_device("cpu", params.train.threads)
    dataset = data.load(params.data.folder, params.data.validation, params.seed)
    folder = Path("models") / name
    checkpoint = models.load_checkpoint(folder / "fp32.safetensors")
    images = data.calibration_images(dataset, params.ptq.calibration[name], params.seed)
    start = time.perf_counter()
    graph = capture(checkpoint.model, checkpoint.input.normalize(images[:2]))
    augmentations = params.train.augment[name]
    quantized = quantize_ptq(
        graph, images, checkpoint.input, params.quantize, params.ptq, augmentations
    )
    seconds = time.perf_counter() - start
    path = folder / "ptq.trit"
    precision = precision_of(checkpoint.provenance)
    about = provenance(dataset, params, name, precision, "train", "quantize", "ptq")
    half = half_arrays(quantized, checkpoint.input, dataset.validation.pixels)
    codec = params.packing.codec
    save_trit(path, quantized, checkpoint.input, checkpoint.classes, about, codec, half)
    size = path.stat().st_size
    print(f"quantize_ptq: {path}: {size:,} bytes by {params.ptq.method} in {seconds:.1f} s")


if __name__ == "__main__":
    with reported("quantize_ptq"):
        main(sys.argv[1])
