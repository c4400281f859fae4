"""The engine again, with more bits of weights or of activations than W1.58A8."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tritbench import runtime
from tritbench.measure.peers.peer import FloatNetwork, Peer, UnavailableError
from tritbench.measure.storage import Storage
from tritbench.packing.artifact import read_trit
from tritbench.packing.writer import trit_bytes
from tritbench.quantize.kept import IntegerWeight, integer_scale, to_integers
from tritbench.quantize.ternary import Quantized, QuantizedWeight
from tritbench.runtime import from_packed

EXACT = "tritbench exact"


def int8(network: FloatNetwork, _: Tensor) -> Peer:
    """W8A8: every weight as the nearest of 255 multiples of its output's scale.

    Raises:
        UnavailableError: without the engine.
    """
    _need_engine()
    graph = network.captured
    weights: dict[str, QuantizedWeight] = {}
    for name in graph.weights():
        weight = torch.from_numpy(graph.parameters[name])
        scale = integer_scale(weight)
        weights[name] = IntegerWeight(to_integers(weight, scale).to(torch.int8), scale)
    rounded = {name: weight.dequantize().numpy() for name, weight in weights.items()}
    graph = dataclasses.replace(graph, parameters={**graph.parameters, **rounded})
    classes = [str(index) for index in range(graph.shapes()[graph.output][-1])]
    data = trit_bytes(Quantized(graph, weights), network.spec, classes, {})
    packed = read_trit(data, "tritbench int8")
    model = from_packed(packed, torch.get_num_threads(), "auto", "int8")
    return Peer(model, sum(array.nbytes for array in packed.stored.values()), len(data))


def exact(
    paths: Mapping[str, Path], storage: Mapping[str, Storage], threads: int
) -> dict[str, Peer]:
    """W1.58A32: the ternary files with float32 activations, by name of the peer.

    Raises:
        UnavailableError: without the engine.
    """
    _need_engine()
    return {
        f"{EXACT}, {mode}": Peer(
            runtime.load(path, threads, mode="exact"), storage[mode].bytes, storage[mode].file_bytes
        )
        for mode, path in paths.items()
        if path.suffix == ".trit"
    }


PEERS = {"tritbench int8": int8}
# They run the ternary files; all others run the float network.
FILE_PEERS = {"tritbench exact": exact}


def _need_engine() -> None:
    if not runtime.NATIVE:
        raise UnavailableError("the native engine was not built")
