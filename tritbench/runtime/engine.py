"""The native engine as Python sees it.

Importing this is a TritbenchError where the extension module does not load, or was built from other
sources than those that lie beside it: a stale engine is never measured.
"""

import os
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.packing import Network
from tritbench.runtime.build_hash import NATIVE, source_hash
from tritbench.runtime.fallback import MODES
from tritbench.runtime.program import encode, lowered
from tritbench.shapes import InputSpec

try:
    from tritbench.runtime import _engine
except ImportError as error:
    raise TritbenchError(
        f"the native engine does not load: {error}; run make build, or install tritbench again"
    ) from None
SOURCES: str = getattr(_engine, "sources", "unknown")
if source_hash() not in (None, SOURCES):
    raise TritbenchError(
        f"{_engine.__file__}: built from other sources (hash {SOURCES}) than those in {NATIVE} "
        f"({source_hash()}); run make build"
    )

BUILD = f"sources {SOURCES}, {_engine.compiler}"

Mode = Literal["int8", "static", "exact"]
ISA_VARIABLE = "TRITBENCH_ISA"


class EngineModel(_engine.Network):
    """A ternary network that runs in one native call; safe to call from several threads.

    Calling it with uint8 images or floats in 0..1, [n, c, h, w] or [n, c × h × w], contiguous, in
    NumPy or PyTorch, gives float32 logits [n, classes] of the same kind. Nothing is copied on the
    way in. An image with NaN or infinity gives NaN.

    Attributes:
        network: what runs.
        classes: one name for each logit.
        engine: what executes it, in words.
        isa: the instruction set of its kernels.
        mode: `int8`, `static` or `exact`.

    Raises:
        TypeError: for other types, naming the one found.
        ValueError: for other shapes, naming both.
    """

    def __init__(self, network: Network, *, threads: int, isa: str, mode: Mode) -> None:
        if mode not in MODES:
            raise TritbenchError(f"mode {mode!r}: expected one of {', '.join(MODES)}")
        if threads < 1:
            raise TritbenchError(f"threads {threads}: expected at least 1")
        self.isa = choose_isa(isa)
        self.mode = mode
        self.network = network
        self.classes = network.classes
        self.engine = f"tritbench native ({self.isa}, {mode})"
        super().__init__(make_program(network, mode), self.isa, threads)

    @property
    def input(self) -> InputSpec:
        """The images it takes.

        Raises:
            TritbenchError: where it takes something else.
        """
        return self.network.input


def make_program(network: Network, mode: Mode) -> NDArray[np.uint8]:
    """The network as one flat buffer (`program.py`).

    Raises:
        UnknownError: where the engine cannot run it.
        TritbenchError: in static mode, where there are no ranges of activations.
    """
    return encode(lowered(network, mode), _engine.step_kinds())


def available_isas() -> list[str]:
    """Instruction sets that the extension and this machine have, best first."""
    return _engine.available_isas()


def machine_limits(isa: str, size: int) -> tuple[float, float]:
    """What bounds the kernels of an instruction set here.

    Returns:
        bytes a second when `size` of them are read again and again; products a second of a layer
        that the first-level cache holds.
    """
    return _engine.machine_limits(isa, size)


def choose_isa(isa: str) -> str:
    """`auto` becomes what TRITBENCH_ISA names, else the best there is.

    Raises:
        TritbenchError: for one that this machine lacks.
    """
    available = available_isas()
    chosen = os.environ.get(ISA_VARIABLE) or "auto" if isa == "auto" else isa
    if chosen == "auto":
        return available[0]
    if chosen not in available:
        raise TritbenchError(f"isa {chosen!r}: this machine has {', '.join(available)}")
    return chosen
