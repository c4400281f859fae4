"""From trits to bytes and back: codecs and the .trit artifact. Reading does without PyTorch."""

from tritbench.packing.artifact import (
    load_trit,
    read_trit,
)
from tritbench.packing.network import Network, Normalization
from tritbench.packing.writer import graph_trit_bytes, save_trit, trit_bytes

__all__ = [
    "Network",
    "Normalization",
    "graph_trit_bytes",
    "load_trit",
    "read_trit",
    "save_trit",
    "trit_bytes",
]
