"""From trits to bytes and back: codecs and the .trit artifact. Reading does without PyTorch."""

from tritbench.packing.artifact import (
    graph_trit_bytes,
    holds_graph,
    load_graph,
    load_trit,
    read_graph_trit,
    read_trit,
    save_graph,
    save_trit,
    trit_bytes,
)
from tritbench.packing.network import GraphNetwork, Network, Normalization, PackedLayer

__all__ = [
    "GraphNetwork",
    "Network",
    "Normalization",
    "PackedLayer",
    "graph_trit_bytes",
    "holds_graph",
    "load_graph",
    "load_trit",
    "read_graph_trit",
    "read_trit",
    "save_graph",
    "save_trit",
    "trit_bytes",
]
