"""Networks as plain data: any `nn.Module` becomes a graph of the operations in `OPS`."""

from tritbench.graph.capture import capture
from tritbench.graph.graph import Graph, Node, Value, from_json, to_json
from tritbench.graph.interpret import run
from tritbench.graph.ops import OPS

__all__ = ["OPS", "Graph", "Node", "Value", "capture", "from_json", "run", "to_json"]
