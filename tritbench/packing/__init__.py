"""From trits to bytes and back: codecs and the .trit artifact. Reading does without PyTorch."""

from tritbench.packing.artifact import load_trit, read_trit, save_trit, trit_bytes
from tritbench.packing.network import Network, PackedLayer

__all__ = ["Network", "PackedLayer", "load_trit", "read_trit", "save_trit", "trit_bytes"]
