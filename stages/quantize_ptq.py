"""Make one trained network ternary without training: `python stages/quantize_ptq.py MODEL`."""

import sys
import time
from pathlib import Path

from tritbench import data, models
from tritbench.errors import reported
from tritbench.params import load_params
from tritbench.pipeline.ptq import quantize_ptq
from tritbench.pipeline.ternary import write_ternary


def main(name: str) -> None:
    """Write models/NAME/ptq.trit."""
    params = load_params()
    dataset = data.load(params.data.folder, params.data.validation, params.seed)
    path = Path("models") / name / "ptq.trit"
    checkpoint = models.load_checkpoint(path.with_name("fp32.safetensors"))
    start = time.perf_counter()
    quantized = quantize_ptq(params, name, dataset, checkpoint.graph, checkpoint.input)
    seconds = time.perf_counter() - start
    write_ternary(path, quantized, checkpoint, dataset, params, name)
    method, size = params.of(name).ptq.method, path.stat().st_size
    print(f"quantize_ptq: {path}: {size:,} bytes by {method} in {seconds:.1f} s")


if __name__ == "__main__":
    with reported("quantize_ptq"):
        main(sys.argv[1])
