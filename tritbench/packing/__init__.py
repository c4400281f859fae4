"""From trits to bytes and back: codecs and the .trit artifact."""

from tritbench.packing.artifact import Network, load_trit, save_trit
from tritbench.packing.fold import PackedLayer, fold

__all__ = ["Network", "PackedLayer", "fold", "load_trit", "save_trit"]
