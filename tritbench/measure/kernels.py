"""The engine against its peers and against the machine, on whole networks and single layers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tritbench import runtime
from tritbench.errors import TritbenchError
from tritbench.graph import OPS, capture
from tritbench.measure.latency import interleaved
from tritbench.measure.peers import Call, FloatNetwork, kernel_peers
from tritbench.measure.rows import Row
from tritbench.models import InputSpec, build
from tritbench.packing import Network, Normalization
from tritbench.packing.graph_file import pack_graph, packed_arrays
from tritbench.params import QuantizeParams
from tritbench.quantize.kept import IntegerWeight, integer_scale, to_integers
from tritbench.quantize.ternary import QuantizedWeight, ternarize

THRESHOLD = 0.75
SETTINGS = QuantizeParams(
    threshold=THRESHOLD, reference="absmean", granularity="channel", backend="native"
)
PIXELS = InputSpec((1, 28, 28), (0.286,), (0.353,))
MODELS: dict[str, dict[str, object]] = {
    "linear": {},
    "mlp": {"hidden": [512, 512]},
    "cnn": {"channels": [32, 64], "hidden": 256},
}
# Outputs × inputs; those with 2560 are BitNet b1.58 2B's.
LAYERS = ((512, 784), (1024, 1024), (2560, 2560), (6912, 2560), (2560, 6912), (4096, 4096))
NAMES = (*MODELS, *(f"{outputs}×{inputs}" for outputs, inputs in LAYERS))
BATCH_SIZES = (1, 128)
# Names and batches that are large enough for a second thread.
THREADED = (("cnn", 128), ("4096×4096", 128), ("resnet18", 1))
COLUMNS = (
    "isa",
    "case",
    "batch_size",
    "engine",
    "latency_s",
    "latency_p95_s",
    "native_speedup",
    "limit_s",
    "limit_by",
    "reached",
    "machine",
    "timestamp",
)


@dataclass(frozen=True)
class Case:
    """A network in float and in trits, and the input that each takes."""

    name: str
    model: FloatNetwork
    network: Network
    x: Tensor  # what the engine takes
    normalized: Tensor  # what the others take


def cases(names: Sequence[str] = NAMES) -> Iterator[Case]:
    """Built-in networks and layers, with random weights, at each batch size."""
    random = torch.Generator().manual_seed(0)
    for name in (name for name in MODELS if name in names):
        model = build(name, MODELS[name], PIXELS.shape, 10, seed=0)
        float_network, network = float_and_ternary(model, PIXELS)
        for batch in BATCH_SIZES:
            x = torch.randint(0, 256, (batch, *PIXELS.shape), generator=random).to(torch.uint8)
            yield Case(name, float_network, network, x, PIXELS.normalize(x))
    for outputs, inputs in LAYERS:
        if f"{outputs}×{inputs}" not in names:
            continue
        torch.manual_seed(0)
        layer = nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))
        spec = InputSpec((1, 1, inputs), (0.0,), (1.0,))
        float_network, network = float_and_ternary(layer, spec)
        for batch in BATCH_SIZES:
            x = torch.randn(batch, *spec.shape, generator=random)
            yield Case(f"{outputs}×{inputs}", float_network, network, x, x)


@torch.inference_mode()
def measure(case: Case, min_run_time: float, min_runs: int) -> tuple[list[Row], dict[str, str]]:
    """One row for each engine, all timed in one run with one thread; and why others have none.

    Where the case is large, a row more for the engine with two threads.

    Raises:
        TritbenchError: where the native engine was not built.
    """
    if not runtime.NATIVE:
        raise TritbenchError("the native engine was not built: there are no kernels to measure")
    from tritbench.runtime import engine

    engines: dict[str, Call] = {"native": runtime.from_packed(case.network, 1, "auto", "int8")}
    batch = len(case.x)
    if (case.name, batch) in THREADED:
        engines["native, 2 threads"] = runtime.from_packed(case.network, 2, "auto", "int8")
    peers, unavailable = kernel_peers(case.model, case.network, case.normalized)
    engines |= peers
    taken = interleaved(engines, case.x, threads=1, min_run_time=min_run_time, min_runs=min_runs)
    isa = engine.choose_isa("auto")
    limit, limit_by = limit_seconds(case.network, batch, isa)
    rows: list[Row] = [
        {
            "isa": isa,
            "case": case.name,
            "batch_size": batch,
            "engine": name,
            "latency_s": latency.median_s,
            "latency_p95_s": latency.p95_s,
            "native_speedup": latency.median_s / taken["native"].median_s,
            "limit_s": limit if name == "native" else None,
            "limit_by": limit_by if name == "native" else None,
            "reached": limit / latency.median_s if name == "native" else None,
        }
        for name, latency in taken.items()
    ]
    return rows, unavailable


def limit_seconds(network: Network, batch: int, isa: str) -> tuple[float, str]:
    """The least time that this machine allows with an instruction set, and what bounds it.

    Every layer multiplies each weight it has at each position, at the rate that the kernel has when
    a layer lies in the first-level cache; and reads its 2-bit weights once, at the rate at which so
    many bytes can be read again and again.
    """
    from tritbench.runtime import engine

    graph, weights = network.packed.graph, network.packed.weights
    shapes = graph.shapes()
    nodes = [node for node in graph.nodes if len(node.inputs) > 1 and node.inputs[1] in weights]
    sizes = [math.prod(weights[str(node.inputs[1])].shape) / 4 for node in nodes]
    bytes_rate, product_rate = engine.machine_limits(isa, max(int(sum(sizes)), 1024))
    products = [
        batch
        * OPS[node.op].products(
            [None if name is None else shapes[name] for name in node.inputs],
            node.attributes,
            node.shape,
        )
        / product_rate
        for node in nodes
    ]
    read = [size / bytes_rate for size in sizes]
    bound = "products" if sum(products) > sum(read) else "bytes"
    return float(np.maximum(products, read).sum()), bound


def _eight_bits(weight: Tensor) -> IntegerWeight:
    scale = integer_scale(weight)
    return IntegerWeight(to_integers(weight, scale), scale)


def float_and_ternary(module: nn.Module, spec: InputSpec) -> tuple[FloatNetwork, Network]:
    """A module as it is, and ternary by the plain threshold; depthwise weights have 8 bits."""
    graph = capture(module.eval(), torch.zeros(2, *spec.shape))
    weights: dict[str, QuantizedWeight] = {}
    for name, node in graph.weights().items():
        weight = torch.from_numpy(graph.parameters[name])
        depthwise = node.attributes.get("groups", 1) > 1 and weight.shape[1] == 1
        weights[name] = _eight_bits(weight) if depthwise else ternarize(weight, SETTINGS, THRESHOLD)
    packed = pack_graph(graph, packed_arrays(weights))
    classes = [str(index) for index in range(graph.shapes()[graph.output][-1])]
    normalization = Normalization(spec.mean, spec.std)
    network = Network(packed, normalization, classes, "base3", {}, {})
    return FloatNetwork(module, graph), network
