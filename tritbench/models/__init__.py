"""Networks as chains of layers: the built-in ones, a user's own, and their FP32 checkpoints."""

from tritbench.optional import explained
from tritbench.shapes import InputSpec

with explained():
    from tritbench.models.built_in import BUILT_IN, build
    from tritbench.models.check import check_layers, check_network
    from tritbench.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from tritbench.models.description import describe, from_layers, weight_layers

__all__ = [
    "BUILT_IN",
    "Checkpoint",
    "InputSpec",
    "build",
    "check_layers",
    "check_network",
    "describe",
    "from_layers",
    "load_checkpoint",
    "save_checkpoint",
    "weight_layers",
]
