"""`tritbench export`: a .trit file in other formats."""

from pathlib import Path
from typing import TYPE_CHECKING

from tritbench.export.gguf import export_gguf
from tritbench.export.npz import export_t81
from tritbench.export.onnx import export_onnx
from tritbench.export.program import export_program
from tritbench.packing import load_trit

if TYPE_CHECKING:
    from tritbench.runtime.engine import Mode


def run(
    path: Path,
    gguf: Path | None,
    gguf_type: str,
    onnx: Path | None,
    t81: Path | None,
    program: Path | None,
    mode: "Mode" = "int8",
) -> None:
    """Write each format that has a path, and say how large it became; `mode` is a Program's.

    Raises:
        TritbenchError: for a file that cannot be read, or where a package is missing.
    """
    network = load_trit(path)
    if gguf:
        export_gguf(network, gguf, gguf_type)
        print(f"{gguf}: holds the tensors and the graph, which no other program knows")
    if onnx:
        export_onnx(network, onnx)
    if t81:
        export_t81(network, t81)
    if program:
        export_program(network, program, mode)
    for target in filter(None, (gguf, onnx, t81, program)):
        print(f"{target}: {target.stat().st_size:,} bytes, from {path.stat().st_size:,} of {path}")
