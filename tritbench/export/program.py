"""The engine's own form, for C programs (include/tritbench.h)."""

from pathlib import Path

from tritbench.errors import TritbenchError
from tritbench.files import write_atomic
from tritbench.packing.network import Network
from tritbench.runtime import NATIVE


def export_program(network: Network, path: Path) -> None:
    """Write the Program that the engine runs, in int8 mode.

    Raises:
        TritbenchError: where the engine was not built, or cannot run the network.
    """
    if not NATIVE:
        raise TritbenchError(f"{path}: a Program needs the native engine, which was not built")
    from tritbench.runtime.engine import make_program

    write_atomic(path, make_program(network, "int8").tobytes())
