"""PyTorch: the compiler, and dynamic quantization to 8 bits."""

import copy
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from tritbench.graph.straight import straight
from tritbench.measure.peers.peer import Call, FloatNetwork, Peer, UnavailableError


def deployed(network: FloatNetwork) -> Call:
    """What one deploys: BatchNorm and normalization folded, an operation a line, no gradients."""
    function = straight(network.graph)
    return torch.inference_mode()(lambda images: function(images.float()))


def compiled(network: FloatNetwork, images: Tensor) -> Peer:
    """torch.compile, for each batch size anew."""
    if not (shutil.which("g++") or shutil.which("clang++")):
        raise UnavailableError("torch.compile needs a C++ compiler")
    # It would compile a program to see whether the compiler knows the processor's vectors: seconds,
    # and where it does not, the network's own program says so.
    os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
    # PyTorch's cache of programs does not tell the instructions apart that ATEN_CPU_CAPABILITY
    # leaves: one for AVX-512 gave NaN, or crashed, where only AVX2 was allowed.
    capability = torch.backends.cpu.get_cpu_capability().replace(" ", "")
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    folder = f"torchinductor_{user}_{capability}"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / folder))
    torch.compiler.reset()  # after eight shapes, of all networks together, it would give up
    peer = _peer(torch.compile(network.module, dynamic=False), network.module)
    try:
        peer.call(images[:1])
    except Exception as error:  # whatever the compilers below it raise
        why, _, _ = str(error).partition("\n")
        raise UnavailableError(f"torch.compile failed: {why}") from error
    return peer


def int8_dynamic(network: FloatNetwork, _: Tensor) -> Peer:
    """Linear layers in 8 bits; all else stays in float."""
    if not any(isinstance(module, nn.Linear) for module in network.module.modules()):
        raise UnavailableError(
            "it has no linear layer, which is all that PyTorch quantizes dynamically"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls it deprecated, without a successor here
        int8 = torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(network.module), {nn.Linear}, torch.qint8
        )
        return _peer(int8, int8)


PEERS = {
    "torch compile": compiled,
    "torch int8 dynamic": int8_dynamic,
}


def _peer(call: Any, network: nn.Module) -> Peer:
    # As safetensors, which knows no quantized types: their integers stand for them.
    arrays = [t.int_repr() if t.is_quantized else t for t in _tensors(network.state_dict())]
    file = save({str(n): array.detach().contiguous() for n, array in enumerate(arrays)})
    return Peer(torch.inference_mode()(call), sum(array.nbytes for array in arrays), len(file))


def _tensors(value: object) -> Iterator[Tensor]:
    """Those of a state dict; a quantized layer keeps its weight and bias in a tuple."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors(item)
