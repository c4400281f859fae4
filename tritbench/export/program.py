"""The engine's own form, for C programs (include/tritbench.h)."""

from pathlib import Path
from typing import TYPE_CHECKING

from tritbench.errors import TritbenchError
from tritbench.files import write_atomic
from tritbench.packing.network import Network
from tritbench.runtime import NATIVE

if TYPE_CHECKING:
    from tritbench.runtime.engine import Mode


def export_program(network: Network, path: Path, mode: "Mode" = "int8") -> None:
    """Write the Program that the engine runs.

    Raises:
        TritbenchError: where the engine was not built, or cannot run the network in this mode.
    """
    if not NATIVE:
        raise TritbenchError(f"{path}: a Program needs the native engine, which was not built")
    from tritbench.runtime.engine import make_program

    write_atomic(path, make_program(network, mode).tobytes())
