"""Every classification network of torchvision, from module to ternary file and back.

`python -m zoo.coverage` writes benchmarks/coverage.csv: what capturing, PTQ by `threshold`, the
`.trit` file and running it give on each, with random weights at the size that the network is for.
`python -m zoo.coverage NETWORK…` measures those again and keeps the other rows.
"""

import gc
import io
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from csv import DictReader, DictWriter
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tritbench.data.sources._torchvision import torchvision_datasets
from tritbench.errors import TritbenchError, reported
from tritbench.files import write_atomic
from tritbench.graph import Node, run
from tritbench.graph.interpret import execute
from tritbench.graph.torch_export import capture
from tritbench.packing import graph_trit_bytes, read_trit
from tritbench.packing.graph_file import pack
from tritbench.params import PtqParams, QuantizeParams
from tritbench.quantize import quantize_graph
from tritbench.runtime import from_packed
from tritbench.runtime.reference import from_network

OUT = Path("benchmarks/coverage.csv")
IMAGES = 4
CALLS = 5  # of each that are timed
GOAL = 1e-4  # of every error
SIZES = {"inception_v3": 299}  # the others take 224
# What torchvision's networks want so that they give one result, and start without minutes of scipy.
SETTINGS = {
    name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", "inception_v3")
}
PTQ = PtqParams(method="threshold", calibration=256, bias_correction=True, batchnorm=True)
QUANTIZE = QuantizeParams(
    threshold=0.7, reference="absmean", granularity="channel", backend="native"
)


def main(*names: str) -> None:
    """Write a row for each network; those that fail have a reason instead of figures."""
    warnings.filterwarnings("ignore")  # of torchvision about its own weights
    given = networks(list(names) or None)
    total = len(names) or 80
    rows = [cover(name, module, size) for name, module, size in tqdm(given, total=total)]
    if names:
        again = {row["network"]: row for row in rows}
        with OUT.open() as file:
            rows = [again.get(row["network"], row) for row in DictReader(file)]
    text = io.StringIO()
    writer = DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(OUT, text.getvalue())
    passed = sum(not row["reason"] for row in rows)
    print(f"coverage: {OUT}: {passed} of {len(rows)} networks")


def networks(names: list[str] | None = None) -> Iterator[tuple[str, nn.Module, int]]:
    """Name, module with random weights, and image size; by default all of torchvision's."""
    torchvision_datasets()
    from torchvision import models

    for name in names or models.list_models(module=models):
        torch.manual_seed(0)
        module = models.get_model(name, weights=None, **SETTINGS.get(name, {}))
        for parameter in module.parameters():
            if parameter.dim() > 1 and not parameter.any():  # a head that waits for training
                nn.init.normal_(parameter, std=0.02)
        yield name, module.eval(), SIZES.get(name, 224)


@torch.no_grad()
def cover(name: str, module: nn.Module, size: int) -> dict[str, Any]:
    """One row: sizes, the greatest errors relative to the greatest output, and seconds in all.

    `interpreter_error` is of the captured graph against the module, `reference_error` of the file,
    read and run, against the graph with dequantized weights; `engine_error` of the engine with
    float activations against the same, and `engine` what ran it. Where one of them is above
    GOAL, `float32_error` is what PyTorch's own float32 differs from float64 by on the first image.
    For the times see `timed`.
    """
    row: dict[str, Any] = {"network": name, "size": size}
    row |= {"parameters": sum(parameter.numel() for parameter in module.parameters())}
    start = time.perf_counter()
    images = torch.randn(IMAGES, 3, size, size, generator=torch.Generator().manual_seed(0))
    figures: dict[str, Any] = dict.fromkeys(
        (
            *("products", "operations", "kinds", "weights", "file_bytes", "bits_per_weight"),
            *("interpreter_error", "reference_error", "engine", "engine_error", "float32_error"),
            *("eager_s", "engine_s", "speedup"),
        )
    )
    reason = ""
    try:
        graph = capture(module, images)
        figures["products"] = graph.products()
        figures["operations"] = len(graph.nodes)
        figures["kinds"] = len({node.op for node in graph.nodes})
        figures["interpreter_error"] = error(run(graph, images), module(images))
        quantized = quantize_graph(graph, [images], QUANTIZE, PTQ)
        packed = pack(quantized)
        classes = [str(index) for index in range(graph.shapes()[graph.output][-1])]
        data = graph_trit_bytes(packed, None, classes, {})
        network = read_trit(data, f"{name}.trit")
        count = sum(weight.trits.numel() for weight in quantized.ternary.values())
        figures["weights"] = count
        figures["file_bytes"] = len(data)
        stored = [a.nbytes for n, a in network.stored.items() if n.endswith((".trits", ".scale"))]
        figures["bits_per_weight"] = f"{8 * sum(stored) / count:.3f}"
        expected = run(quantized.graph, images)
        figures["reference_error"] = error(from_network(network)(images), expected)
        engine = from_packed(network, 1, "auto", "exact")
        figures["engine"] = engine.engine
        figures["engine_error"] = error(engine(images), expected)
        if max(float(figures[key]) for key in ("reference_error", "engine_error")) > GOAL:
            doubles = run(quantized.graph, images[:1], operation=in_float64)
            figures["float32_error"] = error(expected[:1], doubles)
        figures |= timed(module, from_packed(network, 1, "auto", "int8"), images[:1])
    except TritbenchError as problem:
        reason = str(problem)
    gc.collect()
    seconds = f"{time.perf_counter() - start:.1f}"
    return row | figures | {"seconds": seconds, "reason": reason}


def in_float64(node: Node, inputs: Sequence[Tensor | None], batch: int) -> Tensor:
    """An operation in double precision, whatever it is given."""
    doubles = [x if x is None or not x.is_floating_point() else x.double() for x in inputs]
    return execute(node, doubles, batch)


def timed(module: nn.Module, engine: Callable[[Tensor], Tensor], image: Tensor) -> dict[str, Any]:
    """Medians of CALLS calls by turns, after one of each, on one image [1, 3, size, size] and one
    thread: the module as PyTorch runs it, and the engine as it is deployed, with int8 activations.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = []
    for _ in range(CALLS + 1):
        begin = time.perf_counter()
        module(image)
        between = time.perf_counter()
        engine(image)
        seconds.append((between - begin, time.perf_counter() - between))
    torch.set_num_threads(threads)
    eager, ternary = (median(times) for times in zip(*seconds[1:], strict=True))
    return {
        "eager_s": f"{eager:.4g}",
        "engine_s": f"{ternary:.4g}",
        "speedup": f"{eager / ternary:.3g}",
    }


def error(found: Tensor, expected: Tensor) -> str:
    """The greatest difference, relative to the greatest output."""
    return f"{float((found - expected).abs().max() / expected.abs().max()):.1e}"


if __name__ == "__main__":
    with reported("coverage"):
        main(*sys.argv[1:])
