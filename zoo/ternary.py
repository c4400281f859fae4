"""A trained network of the zoo made ternary: `python -m zoo.ternary ptq | qat MODEL [PARAMS]`."""

import sys

from tritbench import models
from tritbench.errors import TritbenchError, reported
from tritbench.pipeline.ptq import quantize_ptq
from tritbench.pipeline.qat import train_qat
from tritbench.pipeline.ternary import write_ternary
from zoo.fp32 import MODELS, PARAMS, load


def main(mode: str, name: str, file: str = PARAMS) -> None:
    """Write zoo/models/NAME/MODE.trit."""
    if mode not in ("ptq", "qat"):
        raise TritbenchError(f"{mode!r}: expected ptq or qat")
    params, dataset = load(file)
    path = MODELS / name / f"{mode}.trit"
    checkpoint = models.load_checkpoint(path.with_name("fp32.safetensors"))
    if mode == "ptq":
        quantized = quantize_ptq(params, name, dataset, checkpoint.graph, checkpoint.input)
    else:
        quantized, _ = train_qat(params, name, dataset, checkpoint, f"{name} qat")
    write_ternary(path, quantized, checkpoint, dataset, params, name)
    print(f"zoo: {path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    with reported("zoo"):
        main(*sys.argv[1:])
