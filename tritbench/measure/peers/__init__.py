"""The same network by others: what one would pick instead, and what the engine is compared with.

PyTorch is always there; the others where `pip install .[peers]` put them.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tritbench.errors import TritbenchError
from tritbench.measure.accuracy import BATCH
from tritbench.measure.peers import ort, ov, own, pytorch, tq2_0
from tritbench.measure.peers.own import EXACT, FILE_PEERS
from tritbench.measure.peers.peer import Call, FloatNetwork, Peer, UnavailableError
from tritbench.packing import Network
from tritbench.packing.weights import PackedGraph
from tritbench.registry import Registry

__all__ = [
    "EAGER",
    "EXACT",
    "FILE_PEERS",
    "PEERS",
    "Call",
    "FloatNetwork",
    "Peer",
    "UnavailableError",
]
__all__ += ["build_peer", "deployed", "kernel_peers"]

# Of the outputs' norm; 8 bits cost some hundredths. With AVX-512, OpenVINO 2026.4 gives numbers
# around 1e8 for some int8 networks with narrow layers.
MAX_ERROR = 0.5
ROUNDING = 1e-3  # of the largest output; float32 is off by some millionths
LEAST_SIZE = 1e-30  # of outputs that are all zero
# What runs the FP32 checkpoints as they are, module by module.
EAGER = "torch eager"

# What runs a float network. Each takes it and images: examples of its input, on which it
# calibrates where it has to. In the order of the rows.
PEERS: Registry[Callable[[FloatNetwork, Tensor], Peer]] = Registry(
    "peers", Callable, {**pytorch.PEERS, **ort.PEERS, **ov.PEERS, **own.PEERS}
)
# What multiplies by the trits themselves: of the network and its input, a note and the call.
TERNARY: Mapping[str, Callable[[PackedGraph, Tensor], tuple[str, Call]]] = {
    "onnxruntime 2-bit": ort.two_bit,
    "ggml tq2_0": tq2_0.linear,
}


def deployed(network: FloatNetwork, images: Tensor) -> Call:
    """The network as one deploys it in PyTorch: the baseline of every speed-up.

    Raises:
        TritbenchError: where it gives something else than the network on `images`.
    """
    call = pytorch.deployed(network)
    with torch.inference_mode():
        expected, found = network.module(images), call(images)
    error = float((found - expected).abs().max() / expected.abs().max().clamp(min=LEAST_SIZE))
    if not error <= ROUNDING:
        raise TritbenchError(f"FP32 with its normalizations folded is off by {error:.1g}")
    return call


def build_peer(name: str, network: FloatNetwork, images: Tensor) -> Peer:
    """A float network, run by a peer.

    Args:
        name: a key of PEERS.
        network: of any operations.
        images: examples of its input, for those that calibrate on it: images of training.

    Raises:
        UnavailableError: where it cannot be had here, or computes something else.
    """
    peer = PEERS[name](network, images)
    for size in sorted({1, min(len(images), BATCH)}):  # some have a program for each
        batch = images[:size]
        with torch.inference_mode():
            expected = network.module(batch)
            norm = expected.norm().clamp(min=LEAST_SIZE)
            error = float((peer.call(batch) - expected).norm() / norm)
        if not error <= MAX_ERROR:
            raise UnavailableError(
                f"it computes something else: outputs are off by {error:.1g} of FP32's"
            )
    return peer


def kernel_peers(
    model: FloatNetwork, network: Network, x: Tensor
) -> tuple[dict[str, Call], dict[str, str]]:
    """Callables that run a network on float32 x, whatever they are called with.

    Most run the float `model`; those of `TERNARY` multiply by the trits of `network`, the same in
    ternary.

    Returns:
        by name, what could be had, PyTorch first; and why the others could not.
    """
    found: dict[str, Call] = {"torch fp32": lambda _: model.module(x)}
    unavailable: dict[str, str] = {}
    for name in PEERS.table:
        # The one takes seconds to compile each case; the other is the engine again.
        if name not in ("torch compile", "tritbench int8"):
            try:
                found[name] = _fixed(build_peer(name, model, x).call, x)
            except UnavailableError as error:
                unavailable[name] = str(error)
    for ternary, build in TERNARY.items():
        try:
            note, call = build(network.packed, x)
            found[ternary + note] = call
        except UnavailableError as error:
            unavailable[ternary] = str(error)
    return found, unavailable


def _fixed(call: Call, x: Tensor) -> Call:
    return lambda _: call(x)
