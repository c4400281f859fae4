"""From trits to bytes and back: codecs and the .trit artifact."""

from tritbench.packing.artifact import Network, load_trit, read_trit, save_trit, trit_bytes
from tritbench.packing.fold import PackedLayer, fold

__all__ = ["Network", "PackedLayer", "fold", "load_trit", "read_trit", "save_trit", "trit_bytes"]
