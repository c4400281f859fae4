"""From a file to predictions: `load` gives a model that maps images to logits.

Needs NumPy alone; PyTorch runs FP32 checkpoints, and is imported when it does.
"""

import importlib.util
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.optional import explained
from tritbench.packing import Network, Normalization, load_trit
from tritbench.packing.graph_file import packed_graph
from tritbench.packing.weights import TernaryArray

# Whether the engine was built. It is imported at first use: one that is there and does not load, or
# was built from other sources, is an error then, and never the reference in silence.
NATIVE = importlib.util.find_spec(f"{__name__}._engine") is not None
NOT_BUILT = (
    "tritbench was installed without its native engine, since no C++ compiler was found: ternary "
    "networks run in NumPy, many times slower (install a compiler, then tritbench again)"
)

if TYPE_CHECKING:
    from tritbench.runtime.engine import EngineModel, Mode
    from tritbench.runtime.fallback import NumpyModel
    from tritbench.runtime.reference import GraphModel

    Model: TypeAlias = GraphModel | EngineModel | NumpyModel

__all__ = [
    "NATIVE",
    "available_isas",
    "engine_build",
    "load",
    "load_reference",
    "pack_linear",
    "ternary_linear",
]


def load(path: str | Path, threads: int = 1, isa: str = "auto", mode: "Mode" = "int8") -> "Model":
    """The model in a .trit file or an FP32 checkpoint (.safetensors), ready to run.

    `model(images)` takes uint8 images [n, ...] (or floats in 0..1) and gives float32 logits
    [n, classes]. A .trit file runs on the native engine, or on its NumPy reference where the engine
    was not built; one that the engine cannot run (of several inputs, or integers that are
    calculated with), and a checkpoint, in PyTorch. `model.engine` says which.

    Args:
        path: the file.
        threads: the engine's, at most; it uses more than one for large work only.
        isa: an instruction set of `available_isas()`; `auto` is what TRITBENCH_ISA names, else the
            best.
        mode: of activations between layers: `int8` (8 bits, scaled for each image), `static` (8
            bits by the ranges that the file holds from calibration) or `exact` (float32, only
            added and subtracted).

    Raises:
        TritbenchError: naming the file, for anything that is not such a model.
    """
    path = Path(path)
    if path.suffix != ".trit":
        return load_reference(path)
    network = load_trit(path)
    try:
        return from_packed(network, threads, isa, mode)
    except TritbenchError as error:
        raise TritbenchError(f"{path}: {error}") from None


def load_reference(path: str | Path) -> "GraphModel":
    """The model in a file, executed by PyTorch; ternary weights are dequantized to float32.

    Raises:
        TritbenchError: naming the file, for anything that is not such a model, and without PyTorch.
    """
    with explained():
        from tritbench.models import load_checkpoint
        from tritbench.runtime.reference import from_checkpoint, from_network
    path = Path(path)
    match path.suffix:
        case ".trit":
            return from_network(load_trit(path))
        case ".safetensors":
            return from_checkpoint(load_checkpoint(path))
    raise TritbenchError(f"{path}: expected a .trit or .safetensors file")


def from_packed(network: Network, threads: int, isa: str, mode: "Mode") -> "Model":
    """A packed network on what runs it, as `load` says."""
    from tritbench.runtime.builder import UnknownError

    if not NATIVE and isa != "auto":
        raise TritbenchError(f"isa {isa!r}: the native engine was not built")
    try:
        if NATIVE:
            from tritbench.runtime.engine import EngineModel

            return EngineModel(network, threads=threads, isa=isa, mode=mode)
        from tritbench.runtime.fallback import NumpyModel

        model = NumpyModel(network, mode)
    except UnknownError:
        with explained():
            from tritbench.runtime.reference import from_network
        return from_network(network)
    _say_that_it_was_not_built()
    return model


def available_isas() -> list[str]:
    """Instruction sets of the engine's kernels on this machine, best first; empty without it."""
    if not NATIVE:
        return []
    from tritbench.runtime import engine

    return engine.available_isas()


def engine_build() -> str:
    """What the engine was built from and by which compiler; `none` where it was not built.

    Raises:
        TritbenchError: where it does not load, or was built from other sources.
    """
    if not NATIVE:
        return "none"
    from tritbench.runtime import engine

    return engine.BUILD


@cache
def _say_that_it_was_not_built() -> None:
    warnings.warn(NOT_BUILT, RuntimeWarning, stacklevel=4)


def pack_linear(
    trits: NDArray[np.int8],
    scale: NDArray[np.float32],
    bias: NDArray[np.float32] | None = None,
    group_size: int | None = None,
    threads: int = 1,
    isa: str = "auto",
    mode: "Mode" = "int8",
) -> "Model":
    """One dense layer for `ternary_linear`.

    Args:
        trits: int8 [out, in] in {-1, 0, +1}.
        scale: float32 [1 or out, groups].
        bias: float32 [out]; none is zeros.
        group_size: inputs that share a scale; none is all of them.
        threads: see `load`.
        isa: see `load`.
        mode: see `load`.

    Raises:
        TritbenchError: where the shapes do not fit each other.
    """
    outputs, inputs = trits.shape
    size = group_size or inputs
    groups = -(-inputs // size)
    if scale.shape not in ((1, groups), (outputs, groups)):
        raise TritbenchError(
            f"scale is {list(scale.shape)}, expected [{outputs}, {groups}] or [1, {groups}]"
        )
    if bias is not None and bias.shape != (outputs,):
        raise TritbenchError(f"bias is {list(bias.shape)}, expected [{outputs}]")
    content = {
        "inputs": {"x": [-1, 1, 1, inputs]},
        "nodes": [["reshape", "x", {"shape": [-1, inputs]}], ["linear", 0, "weight", "bias"]],
    }
    weights = {"weight": TernaryArray(trits, scale, size, trits.shape)}
    shift = np.zeros(outputs, np.float32) if bias is None else bias
    packed = packed_graph(content, weights, {"bias": shift})
    classes = [str(index) for index in range(outputs)]
    network = Network(packed, Normalization((0.0,), (1.0,)), classes, "", {}, {})
    return from_packed(network, threads, isa, mode)


def ternary_linear(packed: Callable[[Any], Any], x: Any) -> Any:
    """x @ weight.T + bias: float32 [n, out] of float32 x [n, in], in NumPy or PyTorch.

    Args:
        packed: what `pack_linear` made.
        x: quantized to 8 bits for each row in int8 mode. uint8 stands for x / 255 and is exact.
    """
    return packed(x)
