"""Networks as plain data: any `nn.Module` becomes a graph of the operations in `OPS`.

Graphs are read without PyTorch; what captures and runs them imports it.
"""

from typing import TYPE_CHECKING, Any

from tritbench.graph.graph import Graph, Node, Value, from_json, to_json
from tritbench.graph.ops import OPS

if TYPE_CHECKING:
    from tritbench.graph.interpret import run
    from tritbench.graph.torch_export import capture

__all__ = ["OPS", "Graph", "Node", "Value", "capture", "from_json", "run", "to_json"]


def __getattr__(name: str) -> Any:
    if name == "capture":
        from tritbench.graph.torch_export import capture

        return capture
    if name == "run":
        from tritbench.graph.interpret import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
